//! The account service over HTTP: two styles of requests, one set of commands.
//!
//! The verb style (`/create`, `/deposit`) and the resource style (`/accounts`, `/transactions`) are two spellings; both
//! end in [`Command`]s. A handler reads a request into a command, hands it to the [`Teller`], and renders the receipt.
//! Since it renders nothing but the receipt and what the request says, a repeated request is answered with the same
//! status and body as the first. Reads are answered from the store, never from the view.

mod accounts;
mod answer;
mod body;
mod conditions;
mod error;
mod headers;
mod money;
mod refusals;
mod statement;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use metrics::{Counter, counter};
use shared::http::{Dependency, NEXT_PAGE, Operations, Problem, described, described_at, telling, with_operations};
use shared::money::Currency;
use shared::store::Store;
use shared::telemetry::metric::COMMANDS;
use shared::telemetry::{Handles, MetricsReader};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use headers::{CHANGED, ETAG, OPENED, TRANSACTED, TRANSFERRED};

use crate::account::Command;
use crate::command::{Outcome, Request, Teller};

#[derive(OpenApi)]
#[openapi(info(
    title = "Account service",
    description = "Commands on accounts. Money is an integer in minor units. Every error is application/problem+json, \
                   except those of the HTTP layer itself, which have an empty body: 431 for a URI or a header that is \
                   too long, 400 for a request that is not HTTP.",
))]
struct Description;

/// What all handlers work with.
struct Handlers<S> {
    teller: Teller<S>,
    default_currency: Currency,
    /// By kind and result.
    commands: Handles<(&'static str, &'static str), Counter>,
}

type SharedHandlers<S> = Arc<Handlers<S>>;

/// Every route of the account service, not yet guarded: `serve` does that, and a test calls `guarded`.
///
/// `store` is asked whether it answers, by `/readyz`.
pub fn router<S: Store>(
    teller: Teller<S>,
    store: S,
    default_currency: Currency,
    metrics: Option<MetricsReader>,
) -> Router {
    let handlers = Arc::new(Handlers { teller, default_currency, commands: Handles::new() });
    let commands = OpenApiRouter::with_openapi(Description::openapi())
        .routes(telling(&OPENED, described(accounts::__path_open, accounts::open::<S>)))
        .routes(telling(&OPENED, described_at("/create", accounts::__path_open, accounts::open::<S>)))
        .routes(telling(&[ETAG], described(accounts::__path_show, accounts::show::<S>)))
        .routes(telling(&[ETAG], described_at("/{id}", accounts::__path_show, accounts::show::<S>)))
        .routes(telling(&[NEXT_PAGE], described(statement::__path_statement, statement::statement::<S>)))
        .routes(telling(&CHANGED, described(accounts::__path_rename, accounts::rename::<S>)))
        .routes(telling(&CHANGED, described(accounts::__path_close, accounts::close::<S>)))
        .routes(telling(&CHANGED, described(money::__path_deposit, money::deposit::<S>)))
        .routes(telling(&CHANGED, described(money::__path_withdraw, money::withdraw::<S>)))
        .routes(telling(&TRANSFERRED, described(money::__path_transfer, money::transfer::<S>)))
        .routes(telling(&TRANSACTED, described(money::__path_transact, money::transact::<S>)))
        .routes(described(money::__path_look_up, money::look_up::<S>))
        .with_state(handlers);
    with_operations(commands, Operations::new(move || dependencies(store.clone()), metrics))
}

/// Every command needs the store, and nothing else.
async fn dependencies<S: Store>(store: S) -> Vec<Dependency> {
    vec![Dependency::needed("store", store.head()).await]
}

impl<S: Store> Handlers<S> {
    async fn submit(&self, request: Request) -> Result<Outcome, Problem> {
        let kind = kind_of(&request.command);
        let problem = if request.key.is_some() { error::problem } else { error::problem_without_key };
        let answer = self.teller.execute(request).await.map_err(|error| problem(&error));
        let result = match &answer {
            Ok(outcome) if outcome.replayed => "replayed",
            Ok(_) => "done",
            Err(problem) => problem.reason().code(),
        };
        let labels = (kind, result);
        let register = || (labels, counter!(COMMANDS.name, "kind" => kind, "result" => result));
        self.commands.with(|known| *known == labels, register, |commands| commands.increment(1));
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
