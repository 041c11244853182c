//! One forwarder at a time.

use metrics::gauge;
use shared::clock::Clock;
use shared::error::BackendError;
use shared::lease::{LeaseName, LeaseStore, RENEWALS_PER_TTL, Turn};
use shared::log::PartitionLog;
use shared::store::{FeedError, Store, WriteError};
use shared::supervise::{OnFailure, Supervisor, TaskFailure};
use shared::telemetry::metric::FORWARDER_LEADING;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{ForwarderConfig, forward, trim};

/// The name of the lease that the leading forwarder holds.
pub const LEADER_LEASE: &str = "forwarder/leader";

/// Why a forwarder stopped before it was asked to. It starts again from its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Another forwarder has noted its progress: this one is not alone, and steps back.
    #[error("another forwarder is at work: {0}")]
    Superseded(WriteError),
    /// A backend failed for longer than is worth waiting for.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The store no longer knows the feed's position.
    #[error(transparent)]
    Feed(FeedError),
}

/// Forwards until `shutdown`, or waits to take over from another forwarder that does.
///
/// # Errors
/// Only when the forwarder's own task cannot be run; failures of backends are waited out.
pub async fn run<S: Store, L: PartitionLog, E: LeaseStore>(
    config: ForwarderConfig,
    store: S,
    log: L,
    leases: E,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), TaskFailure> {
    let mut supervisor = Supervisor::new(shutdown.clone());
    supervisor.spawn("forwarder", OnFailure::Restart, move || {
        compete(config.clone(), store.clone(), log.clone(), leases.clone(), clock.clone(), shutdown.clone())
    });
    supervisor.wait().await
}

async fn compete<S: Store, L: PartitionLog, E: LeaseStore>(
    config: ForwarderConfig,
    store: S,
    log: L,
    leases: E,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), ForwardError> {
    let turn = Turn {
        leases: &leases,
        name: LeaseName(LEADER_LEASE.into()),
        holder: &config.holder,
        ttl: config.lease_ttl,
        ask_every: config.lease_ttl / RENEWALS_PER_TTL,
    };
    turn.act(&shutdown, |epoch| {
        info!(%epoch, "forwarder leads");
        lead(&config, &store, &log, &clock, &shutdown)
    })
    .await
}

/// Shows for as long as it lives that this process leads.
struct Leading;

impl Leading {
    fn new() -> Self {
        gauge!(FORWARDER_LEADING.name).set(1);
        Self
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        gauge!(FORWARDER_LEADING.name).set(0);
    }
}

async fn lead<S: Store, L: PartitionLog>(
    config: &ForwarderConfig,
    store: &S,
    log: &L,
    clock: &Clock,
    shutdown: &CancellationToken,
) -> Result<(), ForwardError> {
    let _leading = Leading::new();
    tokio::select! {
        biased;
        forwarded = forward::forward(config, store, log, shutdown) => forwarded,
        never = trim::keep_trimming(config, store, log, clock) => match never {},
    }
}
