//! Money: in, out, and from one account to another, in both spellings.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use shared::http::{JsonBody, NoParams, PathId, Problem, QueryParams, Reason, Unavailable};
use shared::id::CommitId;
use shared::store::Store;

use super::SharedHandlers;
use super::answer::{Answer, BalanceAnswer, TransactAnswer, TransactionAnswer, TransferAnswer};
use super::body::{MoneyBody, TransactionBody, TransferBody};
use super::conditions::Conditions;
use super::error::problem;
use super::refusals::{CommandRefusals, TransactionRefusals};
use crate::account::Command;
use crate::command::{Outcome, Receipt, Request};

/// Deposit money into an account.
#[utoipa::path(
    post, path = "/deposit", tag = "money", request_body = MoneyBody,
    params(Conditions),
    responses(
        (status = 200, description = "The account after the transaction", body = BalanceAnswer),
        CommandRefusals,
    )
)]
pub(super) async fn deposit<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    conditions: Conditions,
    JsonBody(body): JsonBody<MoneyBody>,
) -> Result<Answer, Problem> {
    let command = Command::Deposit { account: body.id, amount: body.money };
    one_sided(&handlers, conditions.request(command, "deposit", &body)).await
}

/// Withdraw money from an account.
#[utoipa::path(
    post, path = "/withdraw", tag = "money", request_body = MoneyBody,
    params(Conditions),
    responses(
        (status = 200, description = "The account after the transaction", body = BalanceAnswer),
        CommandRefusals,
    )
)]
pub(super) async fn withdraw<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    conditions: Conditions,
    JsonBody(body): JsonBody<MoneyBody>,
) -> Result<Answer, Problem> {
    let command = Command::Withdraw { account: body.id, amount: body.money };
    one_sided(&handlers, conditions.request(command, "withdraw", &body)).await
}

async fn one_sided<S: Store>(handlers: &SharedHandlers<S>, request: Request) -> Result<Answer, Problem> {
    let outcome = handlers.submit(request).await?;
    let account = *outcome.receipt.account();
    Ok(Answer::json(StatusCode::OK, &BalanceAnswer::from(account)).etag(account.version).replayed(outcome.replayed))
}

/// Transfer money between two accounts: both balances change, or neither does.
#[utoipa::path(
    post, path = "/transfer", tag = "money", request_body = TransferBody,
    params(Conditions),
    responses(
        (status = 201, description = "Both accounts after the transfer", body = TransferAnswer),
        CommandRefusals,
    )
)]
pub(super) async fn transfer<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    conditions: Conditions,
    JsonBody(body): JsonBody<TransferBody>,
) -> Result<Answer, Problem> {
    let command = Command::Transfer { from: body.from, to: body.to, amount: body.money };
    let outcome = handlers.submit(conditions.request(command, "transfer", &body)).await?;
    // A receipt of another kind would stand under another digest; it cannot be the answer to a transfer.
    let Receipt::Transferred { from, to, .. } = outcome.receipt else { return Err(Problem::new(Reason::Internal)) };
    Ok(created(&outcome, &TransferAnswer { id: outcome.transaction, from: from.into(), to: to.into() }))
}

/// Carry out a transaction: a deposit (only `to`), a withdrawal (only `from`) or a transfer (both).
#[utoipa::path(
    post, path = "/transactions", tag = "money", request_body = TransactionBody,
    params(
        Conditions,
        ("Prefer" = Option<String>, Header,
         description = "`return=representation` returns the transaction instead of its id"),
    ),
    responses(
        (status = 201, description = "Id of the transaction, or the transaction if `Prefer` asks for it", body = TransactAnswer),
        CommandRefusals,
    )
)]
pub(super) async fn transact<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    conditions: Conditions,
    JsonBody(body): JsonBody<TransactionBody>,
) -> Result<Answer, Problem> {
    let amount = body.money;
    let command = match (body.from, body.to) {
        (Some(from), Some(to)) => Command::Transfer { from, to, amount },
        (Some(account), None) => Command::Withdraw { account, amount },
        (None, Some(account)) => Command::Deposit { account, amount },
        (None, None) => return Err(Problem::invalid("from", "name an account of this bank in from, to or both")),
    };
    let representation = conditions.representation;
    let outcome = handlers.submit(conditions.request(command, "transact", &body)).await?;
    match outcome.movement() {
        Some(transaction) if representation => {
            Ok(created(&outcome, &TransactAnswer::Transaction(transaction.into())).preferred())
        }
        Some(_) | None => Ok(created(&outcome, &TransactAnswer::Id(outcome.transaction))),
    }
}

fn created(outcome: &Outcome, body: &impl Serialize) -> Answer {
    Answer::json(StatusCode::CREATED, body)
        .location(&format!("/transactions/{}", outcome.transaction))
        .replayed(outcome.replayed)
}

/// Get a transaction.
#[utoipa::path(
    get, path = "/transactions/{id}", tag = "money",
    params(("id" = uuid::Uuid, Path, description = "Transaction id")),
    responses(
        (status = 200, description = "The transaction", body = TransactionAnswer),
        TransactionRefusals,
        Unavailable,
    )
)]
pub(super) async fn look_up<S: Store>(
    State(handlers): State<SharedHandlers<S>>,
    PathId(id): PathId<CommitId>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
) -> Result<Answer, Problem> {
    let found = handlers.teller.transaction(id).await.map_err(|error| problem(&error))?;
    let transaction = found
        .ok_or_else(|| Problem::new(Reason::TransactionNotFound).detail(format!("transaction {id} does not exist")))?;
    Ok(Answer::json(StatusCode::OK, &TransactionAnswer::from(transaction)))
}
