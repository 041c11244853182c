//! One forwarder at a time.

use metrics::gauge;
use shared::clock::Clock;
use shared::coordinate::Epoch;
use shared::error::BackendError;
use shared::lease::{Ended, LeaseName, LeaseStore, RENEWALS_PER_TTL, act_while_held};
use shared::log::PartitionLog;
use shared::store::{FeedError, Store, WriteError};
use shared::supervise::{OnFailure, Supervisor, TaskFailure};
use shared::telemetry::metric::FORWARDER_LEADING;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

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
    let name = LeaseName(LEADER_LEASE.into());
    while !shutdown.is_cancelled() {
        let asked = Instant::now();
        if let Some(lease) = leases.acquire(&name, &config.holder, config.lease_ttl, Epoch::NONE).await? {
            info!(epoch = %lease.epoch(), "forwarder leads");
            gauge!(FORWARDER_LEADING.name).set(1);
            let work = lead(&config, &store, &log, &clock, &shutdown);
            let ended = act_while_held(&leases, lease, asked, config.lease_ttl, work).await;
            gauge!(FORWARDER_LEADING.name).set(0);
            match ended {
                Ended::Done(result) => result?,
                Ended::Lost => debug!("forwarder competes again"),
            }
        } else {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(config.lease_ttl / RENEWALS_PER_TTL) => {}
            }
        }
    }
    Ok(())
}

async fn lead<S: Store, L: PartitionLog>(
    config: &ForwarderConfig,
    store: &S,
    log: &L,
    clock: &Clock,
    shutdown: &CancellationToken,
) -> Result<(), ForwardError> {
    tokio::select! {
        biased;
        forwarded = forward::forward(config, store, log, shutdown) => forwarded,
        never = trim::keep_trimming(config, store, log, clock) => match never {},
    }
}
