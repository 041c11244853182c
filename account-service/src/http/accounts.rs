//! Accounts: open, look at, rename, close.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use shared::http::{JsonBody, NoBody, NoParams, PathId, Problem, QueryParams, Reason, Unavailable};
use shared::id::AccountId;
use shared::store::Store;

use super::SharedHandlers;
use super::answer::{AccountAnswer, Answer, RenamedAnswer, StatusAnswer};
use super::body::{OpenBody, RenameBody};
use super::conditions::{Conditions, Unversioned};
use super::error::problem;
use super::refusals::{AccountRefusals, CommandRefusals};
use crate::account::{Command, Rejection};
use crate::command::{CommandError, Outcome};

/// Open an account.
#[utoipa::path(
    post, path = "/accounts", tag = "accounts", request_body = OpenBody,
    params(Unversioned),
    responses(
        (status = 201, description = "Id of the new account", body = uuid::Uuid, content_type = "application/json"),
        CommandRefusals,
    )
)]
pub(super) async fn open<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    Unversioned(conditions): Unversioned,
    JsonBody(body): JsonBody<OpenBody>,
) -> Result<Answer, Problem> {
    let command = Command::Open {
        account: handlers.teller.ids().account(),
        owner: body.owner.clone(),
        currency: body.currency.unwrap_or(handlers.default_currency),
        opening: body.money,
        overdraft_limit: body.overdraft_limit,
    };
    let outcome = handlers.submit(conditions.request(command, "open", &body)).await?;
    let account = outcome.receipt.account();
    Ok(Answer::json(StatusCode::CREATED, &account.id)
        .location(&format!("/accounts/{}", account.id))
        .etag(account.version)
        .replayed(outcome.replayed))
}

/// Get the current state of an account.
#[utoipa::path(
    get, path = "/accounts/{id}", tag = "accounts",
    params(("id" = uuid::Uuid, Path, description = "Account id")),
    responses(
        (status = 200, description = "The account", body = AccountAnswer),
        AccountRefusals,
        Unavailable,
    )
)]
pub(super) async fn show<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    PathId(id): PathId<AccountId>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
) -> Result<Answer, Problem> {
    let found = handlers.teller.account(id).await.map_err(|error| problem(&error))?;
    let account = found.ok_or_else(|| {
        let rejection = Rejection::AccountNotFound { account: id };
        Problem::new(Reason::AccountNotFound).detail(CommandError::from(rejection).to_string())
    })?;
    let version = account.version;
    Ok(Answer::json(StatusCode::OK, &AccountAnswer::from(account)).etag(version))
}

/// Rename the owner of an account.
#[utoipa::path(
    patch, path = "/accounts/{id}", tag = "accounts", request_body = RenameBody,
    params(("id" = uuid::Uuid, Path, description = "Account id"), Conditions),
    responses(
        (status = 200, description = "Renamed", body = RenamedAnswer),
        CommandRefusals,
    )
)]
pub(super) async fn rename<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    PathId(id): PathId<AccountId>,
    conditions: Conditions,
    JsonBody(body): JsonBody<RenameBody>,
) -> Result<Answer, Problem> {
    let command = Command::Rename { account: id, owner: body.owner.clone() };
    let outcome = handlers.submit(conditions.request(command, "rename", &(id, &body))).await?;
    // A receipt holds no name. The one of the request is the same whenever the request is repeated.
    Ok(changed(&outcome, &RenamedAnswer::new(*outcome.receipt.account(), body.owner)))
}

/// Close an account permanently; its balance must be zero.
#[utoipa::path(
    post, path = "/accounts/{id}/close", tag = "accounts",
    params(("id" = uuid::Uuid, Path, description = "Account id"), Conditions),
    responses(
        (status = 200, description = "Closed", body = StatusAnswer),
        CommandRefusals,
    )
)]
pub(super) async fn close<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    PathId(id): PathId<AccountId>,
    conditions: Conditions,
    _: NoBody,
) -> Result<Answer, Problem> {
    let outcome = handlers.submit(conditions.request(Command::Close { account: id }, "close", &id)).await?;
    Ok(changed(&outcome, &StatusAnswer::from(*outcome.receipt.account())))
}

fn changed(outcome: &Outcome, body: &impl Serialize) -> Answer {
    Answer::json(StatusCode::OK, body).etag(outcome.receipt.account().version).replayed(outcome.replayed)
}
