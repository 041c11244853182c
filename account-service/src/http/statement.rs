//! The statement of an account, page by page.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::http::{PageLimit, PathId, Problem, QueryParams, Unavailable, next_link};
use shared::id::{AccountId, CommitId, EventId};
use shared::money::Money;
use shared::store::Store;
use utoipa::{IntoParams, ToSchema};

use super::SharedHandlers;
use super::error::problem;
use super::refusals::StatementRefusals;
use crate::account::Rejection;
use crate::statement::{Kind, Line, Place};

/// A page of a statement.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatementParams {
    /// Page size.
    #[param(inline)]
    limit: Option<PageLimit>,
    /// Page token, from the `Link` header of the previous page.
    cursor: Option<String>,
}

/// What happened to an account, and its balance after it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatementLine)]
pub(super) struct LineAnswer {
    /// Number of events of the account, this one included.
    #[schema(value_type = u64)]
    version: Version,
    /// Id of the event.
    #[schema(value_type = String)]
    id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    kind: Kind,
    /// What was added to the balance, in minor units: negative if money went out, 0 if none moved.
    #[schema(value_type = i64)]
    change: Money,
    /// Balance after it, in minor units.
    #[schema(value_type = i64)]
    balance: Money,
    /// Id of the transaction; null if money was neither deposited, withdrawn nor transferred.
    #[schema(value_type = Option<uuid::Uuid>)]
    transaction: Option<CommitId>,
    /// The other account of a transfer.
    #[schema(value_type = Option<uuid::Uuid>)]
    other_account: Option<AccountId>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Line> for LineAnswer {
    fn from(line: Line) -> Self {
        let Line { version, event, kind, change, balance, transaction, other_account, time } = line;
        Self { version, id: event, kind, change, balance, transaction, other_account, created_at: time }
    }
}

/// List what happened to an account page by page, newest first: one line for each event.
#[utoipa::path(
    get, path = "/accounts/{id}/statement", tag = "accounts",
    params(("id" = uuid::Uuid, Path, description = "Account id"), StatementParams),
    responses(
        (status = 200, description = "A page; `Link` with `rel=\"next\"` is the next page. What happens after the first page was read is on none", body = Vec<LineAnswer>),
        StatementRefusals,
        Unavailable,
    )
)]
pub(super) async fn statement<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    uri: Uri,
    PathId(id): PathId<AccountId>,
    QueryParams(params): QueryParams<StatementParams>,
) -> Result<(HeaderMap, Json<Vec<LineAnswer>>), Problem> {
    let limit = params.limit.unwrap_or_default().get();
    let from = params.cursor.map(|cursor| Place::read(&cursor, id).ok_or_else(bad_cursor)).transpose()?;
    let found = handlers.teller.statement(id, from, limit).await.map_err(|error| problem(&error))?;
    let page = found.ok_or_else(|| {
        if from.is_some() { bad_cursor() } else { problem(&Rejection::AccountNotFound { account: id }.into()) }
    })?;
    let headers = match page.next {
        Some(place) => next_link(uri.path(), &format!("?limit={limit}&cursor={}", place.cursor(id)))?,
        None => HeaderMap::new(),
    };
    Ok((headers, Json(page.lines.into_iter().map(LineAnswer::from).collect())))
}

fn bad_cursor() -> Problem {
    Problem::invalid("cursor", "the cursor does not belong to this statement; start again without it")
}
