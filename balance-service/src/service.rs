use shared::backends::Backends;
use shared::clock::Clock;
use shared::http::{Edge, RunError, serve};
use shared::id::Ids;
use tokio_util::sync::CancellationToken;

use crate::BalanceConfig;
use crate::http::BalanceApi;
use crate::nudge::Nudge;
use crate::projection::project;
use crate::rebuild::Rebuilds;
use crate::verify::{Verifier, verification_patience};
use crate::visibility::Visibility;

/// Projects and answers queries until `shutdown`; then finishes the queries in flight and releases its partitions.
///
/// # Errors
/// The listener failed, or a task failed that must not fail.
pub async fn run<B: Backends>(
    config: BalanceConfig,
    backends: B,
    clock: Clock,
    ids: Ids,
    edge: Edge,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let (nudge, visibility) = (Nudge::default(), Visibility::default());
    // The projection runs until the last query is answered. If it stops by itself, the HTTP edge stops with it.
    let (closing, last_query_answered) = (shutdown.child_token(), CancellationToken::new());
    let (patience, checks) = (verification_patience(config.lease_ttl), nudge.checks.clone());
    let api = BalanceApi {
        rebuilds: Rebuilds::new(backends.clone(), config.partitions, clock.clone(), ids.clone(), nudge.clone()),
        verifier: Verifier::of_service(backends.clone(), config.partitions, patience, clock.clone(), checks),
        backends: backends.clone(),
        visibility: visibility.clone(),
        clock: clock.clone(),
        shutdown: closing.clone(),
    };
    let router = api.router(edge.metrics);
    let serving = async {
        let served = serve("balance-service", router, edge.listener, edge.limits, closing.clone()).await;
        last_query_answered.cancel();
        served
    };
    let projecting = async {
        let ended = project(config, backends, clock, ids, nudge, visibility, last_query_answered.clone()).await;
        closing.cancel();
        ended
    };
    let (served, projected) = tokio::join!(serving, projecting);
    projected?;
    served.map_err(RunError::Listen)
}
