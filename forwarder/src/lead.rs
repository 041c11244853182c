//! One forwarder at a time.

use metrics::gauge;
use shared::clock::Clock;
use shared::coordinate::{Position, Revision};
use shared::error::BackendError;
use shared::lease::{Candidate, LeaseName, LeaseStore, RENEWALS_PER_TTL};
use shared::log::PartitionLog;
use shared::store::{FeedError, Store, WriteError};
use shared::supervise::{OnFailure, Supervisor, TaskFailure};
use shared::telemetry::metric::{
    FORWARDER_LEADING, FORWARDER_POSITION_SECONDS, LOG_FULL_WAITS, Metric, PARTITIONS_RENEWED, PUBLISH_FAILURES,
};
use shared::telemetry::show_from_the_start;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::full::FullPartitions;
use crate::{ForwarderConfig, forward, trim};

/// Counters of a partition that alarms watch: exported from the start, so that the first increment is seen as one.
const WATCHED: &[Metric] = &[PARTITIONS_RENEWED, LOG_FULL_WAITS, PUBLISH_FAILURES];

/// The name of the lease that the leading forwarder holds.
pub const LEADER_LEASE: &str = "forwarder/leader";

/// Why a forwarder stopped before it was asked to. It starts again from its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Another forwarder has noted a checkpoint: this one is not alone, and steps down.
    #[error("another forwarder is at work: register {name} is at {actual}, not at {expected}")]
    Superseded {
        /// The register that holds the checkpoint.
        name: String,
        /// The revision this forwarder expected.
        expected: Revision,
        /// The actual revision.
        actual: Revision,
    },
    /// A backend failed for too long to keep waiting for it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// No partition of the log has answered this process for long. Another one may reach it.
    #[error("no partition of the log answers: {0}")]
    LogSilent(BackendError),
    /// The store no longer knows the feed's position. The next start resumes from the noted one; if that is lost as
    /// well, it is at the head, and renews every partition.
    #[error("the store no longer holds what follows position {0}")]
    PositionLost(Position),
}

impl From<WriteError> for ForwardError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Moved { name, expected, actual } => Self::Superseded { name, expected, actual },
            WriteError::Backend(failure) => failure.into(),
        }
    }
}

impl From<FeedError> for ForwardError {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Lost(position) => Self::PositionLost(position),
            FeedError::Backend(failure) => failure.into(),
        }
    }
}

/// Forwards until `shutdown`, or waits to take over from another forwarder that leads.
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
    supervisor.spawn_with(
        "forwarder",
        OnFailure::Restart,
        (config, store, log, leases, clock, shutdown),
        |(config, store, log, leases, clock, shutdown)| compete(config, store, log, leases, clock, shutdown),
    );
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
    let candidate = Candidate {
        leases: &leases,
        name: LeaseName(LEADER_LEASE.into()),
        holder: &config.holder,
        ttl: config.lease_ttl,
        ask_every: config.lease_ttl / RENEWALS_PER_TTL,
    };
    let ended = candidate
        .act(&shutdown, |epoch| {
            info!(%epoch, "forwarder leads");
            lead(&config, &store, &log, &clock, &shutdown)
        })
        .await;
    give_way(&ended, &config, &shutdown).await;
    ended
}

/// Waits until every other process must have asked for the lease, which is free, if another one may do better.
async fn give_way(ended: &Result<(), ForwardError>, config: &ForwarderConfig, shutdown: &CancellationToken) {
    if let Err(ForwardError::LogSilent(_)) = ended {
        shutdown.run_until_cancelled(tokio::time::sleep(config.lease_ttl)).await;
    }
}

/// While it lives, the metrics show that this process leads. Without it they show no position: one that stands still
/// would look like a forwarder that is stuck.
struct Leading;

impl Leading {
    fn new() -> Self {
        show_leading(true);
        Self
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        show_leading(false);
    }
}

/// The position is shown once it is known.
fn show_leading(leads: bool) {
    gauge!(FORWARDER_LEADING.name).set(u8::from(leads));
    gauge!(FORWARDER_POSITION_SECONDS.name).set(0);
}

async fn lead<S: Store, L: PartitionLog>(
    config: &ForwarderConfig,
    store: &S,
    log: &L,
    clock: &Clock,
    shutdown: &CancellationToken,
) -> Result<(), ForwardError> {
    let _leading = Leading::new();
    for partition in config.partitions.all() {
        show_from_the_start(WATCHED, partition);
    }
    let full = FullPartitions::default();
    // The store may not answer when the checkpoint is noted at last. That can be dropped: the next forwarder
    // publishes again what was not noted.
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.lease_ttl).await;
    };
    tokio::select! {
        biased;
        forwarded = forward::forward(config, store, log, &full, shutdown) => forwarded,
        never = trim::keep_trimming(config, store, log, clock, &full) => match never {},
        () = overdue => {
            warn!("the checkpoint was not noted in time, stopping without it");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use shared::lease::Holder;
    use tokio::time::Instant;

    use crate::checkpoint::REGISTER;
    use crate::fake_log::partitions;

    #[test]
    fn a_store_that_fails_is_not_taken_for_another_forwarder() {
        let failure = || BackendError::not_done("write_register", "out of order");
        for told in [ForwardError::from(WriteError::from(failure())), FeedError::from(failure()).into()] {
            assert!(matches!(told, ForwardError::Backend(_)), "{told}");
            assert_eq!(told.to_string(), failure().to_string());
        }
    }

    #[test]
    fn another_forwarder_and_a_lost_position_are_told_as_what_they_are() {
        let (expected, actual) = (Revision::new(1), Revision::new(2));
        let superseded = ForwardError::from(WriteError::Moved { name: REGISTER.to_owned(), expected, actual });
        assert_eq!(
            superseded.to_string(),
            "another forwarder is at work: register forwarder/checkpoint is at r2, not at r1"
        );
        let lost = ForwardError::from(FeedError::Lost(Position::Number(7)));
        assert!(matches!(lost, ForwardError::PositionLost(Position::Number(7))), "{lost}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reaches_no_partition_lets_others_take_the_lease_first() {
        let config = ForwarderConfig {
            holder: Holder("one".into()),
            partitions: partitions(),
            lease_ttl: Duration::from_secs(5),
            log_window: Duration::ZERO,
            trim_every: Duration::ZERO,
        };
        let failure = || BackendError::not_done("extent", "silent");
        for (ended, waited) in [
            (Ok(()), Duration::ZERO),
            (Err(ForwardError::Backend(failure())), Duration::ZERO),
            (Err(ForwardError::LogSilent(failure())), config.lease_ttl),
        ] {
            let (shutdown, began) = (CancellationToken::new(), Instant::now());
            give_way(&ended, &config, &shutdown).await;
            assert_eq!(began.elapsed(), waited, "{ended:?}");
            shutdown.cancel();
            give_way(&ended, &config, &shutdown).await;
            assert_eq!(began.elapsed(), waited, "{ended:?}");
        }
    }
}
