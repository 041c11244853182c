//! The HTTP API of the projection, for clients and operators.
//!
//! V1  An answer comes from the active generation, or says that there is none (503).
//! V2  A document is the fold of a prefix of its account's events. With `min_version` it is never an older one: the
//!     answer waits as long as requested, and then says how far the view is (504). If the account is parked below that
//!     version, an answer that would wait for two seconds or more says so instead of waiting on. A service that stops
//!     ends the wait (503).
//! V3  A list shows what the index shows: a change may appear in it only after the next refresh of the index.
//! V4  The cost of a request is bounded: the documents of a page, the time of a wait, the length of a query.

mod list;
mod one;
mod parked;
mod ready;
mod rebuild;
mod refusals;
mod verify;
mod view;

use axum::Router;
use shared::backends::Backends;
use shared::clock::Clock;
use shared::http::{NEXT_PAGE, Operations, Problem, Reason, described, described_at, telling, with_operations};
use shared::index::QueryError;
use shared::telemetry::MetricsReader;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use view::{BalanceView, ParkedView, RebuildView};

use rebuild::STATUS_LOCATION;

use crate::Visibility;
use crate::rebuild::Rebuilds;
use crate::verify::Verifier;

#[derive(OpenApi)]
#[openapi(info(
    title = "Balance service",
    description = "The projection of the event store: queries, rebuilds, verification, parked accounts. \
                   Money is an integer in minor units. Every error is application/problem+json, except those of the \
                   HTTP layer itself, which have an empty body: 431 for a URI or a header that is too long, 400 for a \
                   request that is not HTTP.",
))]
struct Description;

/// What the routes use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BalanceApi<B> {
    /// Where the balances are.
    pub backends: B,
    /// Handles requests for rebuilds.
    pub rebuilds: Rebuilds<B>,
    /// Handles requests to compare the view with the store.
    pub verifier: Verifier<B>,
    /// Wakes queries that wait for a version.
    pub visibility: Visibility,
    /// The time of day.
    pub clock: Clock,
    /// Ends the streams and waits that would hold up a shutdown.
    pub shutdown: CancellationToken,
}

impl<B: Backends> BalanceApi<B> {
    /// Every route of the service, for [`shared::http::serve`].
    pub fn router(self, metrics: Option<MetricsReader>) -> Router {
        let backends = self.backends.clone();
        let operations = Operations::new(move || ready::dependencies(backends.clone()), metrics);
        let routes = OpenApiRouter::with_openapi(Description::openapi())
            .routes(telling(&[NEXT_PAGE], described(list::__path_list, list::list::<B>)))
            .routes(telling(&[NEXT_PAGE], described_at("/", list::__path_list, list::list::<B>)))
            .routes(telling(&[NEXT_PAGE], described_at("/balance/", list::__path_list, list::list::<B>)))
            .routes(described(one::__path_one, one::one::<B>))
            .routes(telling(&[NEXT_PAGE], described(parked::__path_parked, parked::parked::<B>)))
            .routes(described(parked::__path_retry, parked::retry::<B>))
            .routes(telling(&[STATUS_LOCATION], described(rebuild::__path_start, rebuild::start::<B>)))
            .routes(rebuild::without_head(
                "DELETE,GET,POST",
                telling(&[STATUS_LOCATION], described(rebuild::__path_start_by_get, rebuild::start_by_get::<B>)),
            ))
            .routes(rebuild::without_head(
                "GET",
                telling(
                    &[STATUS_LOCATION],
                    described_at("/rebuild/balance", rebuild::__path_start_by_get, rebuild::start_by_get::<B>),
                ),
            ))
            .routes(described(rebuild::__path_status, rebuild::status::<B>))
            .routes(described(rebuild::__path_cancel, rebuild::cancel::<B>))
            .routes(telling(&[STATUS_LOCATION], described(rebuild::__path_rollback, rebuild::rollback::<B>)))
            .routes(described(verify::__path_verify, verify::verify::<B>))
            .with_state(self);
        with_operations(routes, operations)
    }
}

/// Tells the client why a query has no answer.
fn refused(failure: QueryError) -> Problem {
    match failure {
        QueryError::NoGeneration => Problem::new(Reason::Unavailable)
            .detail("the projection is being built; GET /balance/rebuild/status shows its progress"),
        QueryError::BadCursor => Problem::invalid("cursor", failure.to_string()),
        QueryError::Backend(failure) => failure.into(),
    }
}
