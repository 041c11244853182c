//! The operational endpoints of a standalone forwarder: liveness, readiness of its backends, and metrics. When the
//! whole bank is one process, the other services provide them for all of it.

use std::io;

use futures::join;
use shared::backends::Backends;
use shared::http::{Dependency, Limits, Operations, serve, with_operations};
use shared::lease::LeaseStore;
use shared::log::PartitionLog;
use shared::partition::Partition;
use shared::store::EventStore;
use shared::telemetry::MetricsReader;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::LEADER_LEASE;

#[derive(OpenApi)]
#[openapi(info(title = "Forwarder", description = "Carries events from the store to the log. It takes no orders."))]
struct Description;

/// Serves the endpoints until `shutdown`.
///
/// # Errors
/// When the listener's address cannot be determined.
pub async fn serve_operations<B: Backends>(
    backends: B,
    metrics: MetricsReader,
    listener: TcpListener,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let operations = Operations::new(move || dependencies(backends.clone()), Some(metrics));
    let router = with_operations(OpenApiRouter::with_openapi(Description::openapi()), operations);
    serve("forwarder", router, listener, limits, shutdown).await
}

/// Probes every backend of a forwarder with a cheap call. It needs all of them: it answers no requests that one could
/// keep away, and without any of them it forwards nothing.
///
/// Of the log, the first partition stands for all, so that the cost does not grow with their number. Another one may
/// fail meanwhile, which is counted when something is published to it.
async fn dependencies<B: Backends>(backends: B) -> Vec<Dependency> {
    let (store, log, leases) = join!(
        Dependency::needed("store", backends.store().head()),
        Dependency::needed("log", backends.log().extent(Partition::new(1))),
        Dependency::needed("leases", backends.leases().list(LEADER_LEASE)),
    );
    vec![store, log, leases]
}
