//! Accounts: open, look at, rename, close.

use axum::extract::State;
use axum::http::StatusCode;
use shared::http::{JsonBody, PathId, Problem, ProblemBody, QueryParams, Reason};
use shared::id::AccountId;
use shared::store::Store;

use super::SharedEdge;
use super::answer::{AccountAnswer, Answer, StatusAnswer};
use super::body::{OpenBody, RenameBody};
use super::conditions::{Conditions, NoParams};
use super::error::problem;
use crate::account::{Command, Rejection};
use crate::command::CommandError;

/// Open an account.
#[utoipa::path(
    post, path = "/accounts", tag = "accounts", request_body = OpenBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeating the request harmless")),
    responses(
        (status = 201, description = "The new account's id", body = uuid::Uuid),
        (status = "4XX", description = "Refused, nothing happened", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Not now, or not known yet", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn open<S: Store>(
    State(edge): State<SharedEdge<S>>,
    conditions: Conditions,
    JsonBody(body): JsonBody<OpenBody>,
) -> Result<Answer, Problem> {
    let command = Command::Open {
        account: edge.teller.ids().account(),
        owner: body.owner.clone(),
        currency: body.currency.unwrap_or(edge.default_currency),
        opening: body.money,
        overdraft_limit: body.overdraft_limit,
    };
    let outcome = edge.submit(conditions.request(command, "open", &body)).await?;
    let account = outcome.receipt.account();
    Ok(Answer::json(StatusCode::CREATED, &account.id)
        .location(&format!("/accounts/{}", account.id))
        .etag(account.version)
        .replayed(outcome.replayed))
}

/// Look at an account as it is now.
#[utoipa::path(
    get, path = "/accounts/{id}", tag = "accounts",
    params(("id" = uuid::Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "The account", body = AccountAnswer),
        (status = "4XX", description = "No such account, or no id", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Not now", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show<S: Store>(
    State(edge): State<SharedEdge<S>>,
    PathId(id): PathId<AccountId>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
) -> Result<Answer, Problem> {
    let found = edge.teller.account(id).await.map_err(|error| problem(&error))?;
    let account = found.ok_or_else(|| {
        let rejection = Rejection::AccountNotFound { account: id };
        Problem::new(Reason::AccountNotFound).detail(CommandError::from(rejection).to_string())
    })?;
    let version = account.version;
    Ok(Answer::json(StatusCode::OK, &AccountAnswer::from(account)).etag(version))
}

/// Give an account another owner's name.
#[utoipa::path(
    patch, path = "/accounts/{id}", tag = "accounts", request_body = RenameBody,
    params(
        ("id" = uuid::Uuid, Path, description = "The account"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeating the request harmless"),
        ("If-Match" = Option<String>, Header, description = "The version the account must have, in quotation marks"),
    ),
    responses(
        (status = 200, description = "Renamed", body = StatusAnswer),
        (status = "4XX", description = "Refused, nothing happened", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Not now, or not known yet", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rename<S: Store>(
    State(edge): State<SharedEdge<S>>,
    PathId(id): PathId<AccountId>,
    conditions: Conditions,
    JsonBody(body): JsonBody<RenameBody>,
) -> Result<Answer, Problem> {
    let command = Command::Rename { account: id, owner: body.owner.clone() };
    change(&edge, conditions.request(command, "rename", &(id, body))).await
}

/// Close an empty account for good.
#[utoipa::path(
    post, path = "/accounts/{id}/close", tag = "accounts",
    params(
        ("id" = uuid::Uuid, Path, description = "The account"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeating the request harmless"),
        ("If-Match" = Option<String>, Header, description = "The version the account must have, in quotation marks"),
    ),
    responses(
        (status = 200, description = "Closed", body = StatusAnswer),
        (status = "4XX", description = "Refused, nothing happened", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Not now, or not known yet", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn close<S: Store>(
    State(edge): State<SharedEdge<S>>,
    PathId(id): PathId<AccountId>,
    conditions: Conditions,
) -> Result<Answer, Problem> {
    change(&edge, conditions.request(Command::Close { account: id }, "close", &id)).await
}

async fn change<S: Store>(edge: &SharedEdge<S>, request: crate::command::Request) -> Result<Answer, Problem> {
    let outcome = edge.submit(request).await?;
    let account = *outcome.receipt.account();
    Ok(Answer::json(StatusCode::OK, &StatusAnswer::from(account)).etag(account.version).replayed(outcome.replayed))
}
