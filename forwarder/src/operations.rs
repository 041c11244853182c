//! What an operator and his machines ask a forwarder that is a process of its own: is it alive, does everything it
//! needs answer, how is it doing. Inside the bank the other services tell that for the whole process.

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

/// Answers until `shutdown`.
///
/// # Errors
/// When the listener's address cannot be told.
pub async fn serve_operations<B: Backends>(
    backends: B,
    metrics: MetricsReader,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let operations = Operations::new(move || dependencies(backends.clone()), Some(metrics));
    let router = with_operations(OpenApiRouter::with_openapi(Description::openapi()), operations);
    serve("forwarder", router, listener, Limits::default(), shutdown).await
}

/// Asks every backend a forwarder needs for something small.
async fn dependencies<B: Backends>(backends: B) -> Vec<Dependency> {
    let (store, log, leases) =
        join!(backends.store().head(), backends.log().extent(Partition::new(1)), backends.leases().list(LEADER_LEASE),);
    vec![
        Dependency { name: "store", ready: store.is_ok() },
        Dependency { name: "log", ready: log.is_ok() },
        Dependency { name: "leases", ready: leases.is_ok() },
    ]
}
