//! The account service over HTTP: two generations of clients, one set of commands.
//!
//! The verb style (`/create`, `/deposit`) and the resource style (`/accounts`, `/transactions`) are two spellings; both
//! end in [`Command`](crate::account::Command)s. A handler reads a request into a command, hands it to the
//! [`Teller`], and renders the receipt. Since the receipt is all it renders, a repeated request is answered with the
//! same status and body as the first.

mod accounts;
mod answer;
mod body;
mod conditions;
mod error;
mod money;
mod openapi;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use metrics::counter;
use shared::http::{Dependency, Problem, operational_routes};
use shared::money::Currency;
use shared::store::Store;
use shared::telemetry::MetricsReader;
use shared::telemetry::metric::COMMANDS;

use crate::account::Command;
use crate::command::{Outcome, Request, Teller};

/// What every handler works with.
struct Edge<S> {
    teller: Teller<S>,
    default_currency: Currency,
}

type SharedEdge<S> = Arc<Edge<S>>;

/// Every route of the account service, not yet guarded: `serve` does that, and a test calls `guarded`.
///
/// `store` is asked whether it answers, by `/readyz`.
pub fn router<S: Store>(
    teller: Teller<S>,
    store: S,
    default_currency: Currency,
    metrics: Option<MetricsReader>,
) -> Router {
    let edge = Arc::new(Edge { teller, default_currency });
    Router::new()
        .route("/create", post(accounts::open::<S>))
        .route("/accounts", post(accounts::open::<S>))
        .route("/{id}", get(accounts::show::<S>))
        .route("/accounts/{id}", get(accounts::show::<S>).patch(accounts::rename::<S>))
        .route("/accounts/{id}/close", post(accounts::close::<S>))
        .route("/deposit", post(money::deposit::<S>))
        .route("/withdraw", post(money::withdraw::<S>))
        .route("/transfer", post(money::transfer::<S>))
        .route("/transactions", post(money::transact::<S>))
        .route("/transactions/{id}", get(money::show::<S>))
        .with_state(edge)
        .merge(operational_routes(move || dependencies(store.clone()), metrics, &openapi::description()))
}

async fn dependencies<S: Store>(store: S) -> Vec<Dependency> {
    vec![Dependency { name: "store", ready: store.head().await.is_ok() }]
}

impl<S: Store> Edge<S> {
    async fn submit(&self, request: Request) -> Result<Outcome, Problem> {
        let kind = kind_of(&request.command);
        let answer = self.teller.execute(request).await.map_err(|error| error::problem(&error));
        let result = match &answer {
            Ok(outcome) if outcome.replayed => "replayed",
            Ok(_) => "done",
            Err(problem) => problem.reason().code(),
        };
        counter!(COMMANDS.name, "kind" => kind, "result" => result).increment(1);
        answer
    }
}

const fn kind_of(command: &Command) -> &'static str {
    match command {
        Command::Open { .. } => "open",
        Command::Deposit { .. } => "deposit",
        Command::Withdraw { .. } => "withdraw",
        Command::Transfer { .. } => "transfer",
        Command::Rename { .. } => "rename",
        Command::Close { .. } => "close",
    }
}
