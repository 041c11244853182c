//! Parked accounts: list them, and retry one.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use shared::backends::Backends;
use shared::http::{NoBody, NoParams, PageLimit, PathId, Problem, QueryParams, Reason, next_link};
use shared::id::AccountId;
use shared::index::ApplyError;
use tracing::warn;
use utoipa::IntoParams;

use super::refusals::{PageRefusals, RetryRefusals};
use super::{BalanceApi, BalanceView, ParkedView, refused};
use crate::parking::{self, ParkingError};

/// A page of parked accounts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ParkedParams {
    /// Page size.
    #[param(inline)]
    limit: Option<PageLimit>,
    /// Only accounts after this one.
    #[param(value_type = Option<Uuid>)]
    cursor: Option<AccountId>,
}

/// List the parked accounts of the active generation page by page.
#[utoipa::path(get, path = "/balance/parked", tag = "parked", params(ParkedParams), responses(
    (status = 200, description = "A page; `Link` with `rel=\"next\"` is the next page", body = Vec<ParkedView>),
    PageRefusals,
))]
pub(super) async fn parked<B: Backends>(
    State(api): State<BalanceApi<B>>,
    uri: Uri,
    QueryParams(params): QueryParams<ParkedParams>,
) -> Result<(HeaderMap, Json<Vec<ParkedView>>), Problem> {
    let limit = params.limit.unwrap_or_default().get();
    // One more account, to know whether there is another page.
    let mut parked = parking::parked(&api.backends, params.cursor, limit + 1).await.map_err(stays_parked)?;
    let has_next = parked.len() > limit;
    parked.truncate(limit);
    let headers = match parked.last() {
        Some(last) if has_next => next_link(uri.path(), &format!("?limit={limit}&cursor={}", last.account))?,
        _ => HeaderMap::new(),
    };
    Ok((headers, Json(parked.into_iter().map(ParkedView::from).collect())))
}

/// Fold a parked account again from its first event, and unpark it if that succeeds.
#[utoipa::path(post, path = "/balance/parked/{id}/retry", tag = "parked",
    params(("id" = Uuid, Path, description = "Account id")),
    responses(
        (status = 200, description = "The account is no longer parked; its balance", body = BalanceView),
        RetryRefusals,
    ),
)]
pub(super) async fn retry<B: Backends>(
    State(api): State<BalanceApi<B>>,
    PathId(account): PathId<AccountId>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
    _: NoBody,
) -> Result<Json<BalanceView>, Problem> {
    let balance = parking::retry(&api.backends, &api.clock, account).await.map_err(stays_parked)?;
    Ok(Json(balance.into()))
}

fn stays_parked(refusal: ParkingError) -> Problem {
    match refusal {
        ParkingError::NotParked => Problem::new(Reason::NotParked),
        ParkingError::StillPoison(parked) => {
            let parked = serde_json::to_value(ParkedView::from(parked)).unwrap_or_default();
            let detail = "its next event still cannot be folded, or the index refuses its document; parked says why";
            Problem::new(Reason::StillParked).detail(detail).member("parked", parked)
        }
        ParkingError::Query(failure) => refused(failure),
        ParkingError::Backend(failure) | ParkingError::Apply(ApplyError::Backend(failure)) => failure.into(),
        ParkingError::Apply(
            refusal @ (ApplyError::Sealed(_)
            | ApplyError::Gone(_)
            | ApplyError::Fenced { .. }
            | ApplyError::Refused { .. }),
        ) => {
            warn!(%refusal, "account stays parked");
            Problem::new(Reason::Unavailable).detail("queries are being switched to another generation; try again")
        }
    }
}
