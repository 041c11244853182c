//! What the metrics tell of a forwarder's position. The only test of its process, since the gauges are those of a
//! process.
#![expect(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use forwarder::ForwarderConfig;
use shared::clock::{Clock, Timestamp};
use shared::id::{AccountId, CommitId, Ids};
use shared::lease::{EmbeddedLeases, Holder};
use shared::log::EmbeddedLog;
use shared::partition::PartitionMap;
use shared::sqlite::DataFolder;
use shared::store::contract::plain_commit;
use shared::store::{Commit, EmbeddedStore, EventStore, Registers};
use shared::telemetry::metric::{FORWARDER_LEADING, FORWARDER_POSITION_SECONDS, Metric};
use shared::telemetry::{MetricsReader, install_metrics};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How long anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// When the only commit was made, in seconds since 1970.
const COMMITTED: i64 = 1_700_000_000;

/// What a forwarder needs, and what its process shows.
struct Bank {
    store: EmbeddedStore,
    log: EmbeddedLog,
    leases: EmbeddedLeases,
    partitions: PartitionMap,
    metrics: MetricsReader,
    _folder: TempDir,
}

impl Bank {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let (clock, partitions) = (Clock::system(), PartitionMap::new(1).unwrap());
        let ids = Ids::new(clock.clone());
        Self {
            store: EmbeddedStore::open(&data).unwrap(),
            log: EmbeddedLog::open(&data, partitions, clock, ids).await.unwrap(),
            leases: EmbeddedLeases::open(&data).unwrap(),
            partitions,
            metrics: install_metrics().unwrap(),
            _folder: folder,
        }
    }

    /// Runs a forwarder until the rest is done.
    async fn while_forwarding(&self, rest: impl Future<Output = ()>) {
        let config = ForwarderConfig {
            holder: Holder("one".into()),
            partitions: self.partitions,
            lease_ttl: Duration::from_secs(2),
            log_window: Duration::from_hours(1),
            trim_every: Duration::from_mins(1),
        };
        let (shutdown, clock) = (CancellationToken::new(), Clock::system());
        let (store, log, leases) = (self.store.clone(), self.log.clone(), self.leases.clone());
        let forwarding = forwarder::run(config, store, log, leases, clock, shutdown.clone());
        let rest = async {
            rest.await;
            shutdown.cancel();
        };
        let (forwarded, ()) = tokio::join!(forwarding, rest);
        forwarded.unwrap();
    }

    /// Appends a commit that comes through the feed, which is read from the head as soon as that is noted.
    async fn append_once_begun(&self) {
        until("the forwarder has begun", async || {
            self.store.read_register("forwarder/checkpoint").await.unwrap().is_some()
        })
        .await;
        let commit = plain_commit(CommitId::from_bytes([1; 16]), &[(AccountId::from_bytes([1; 16]), 0)]);
        let commit = Commit { time: Timestamp::from_micros(COMMITTED * 1_000_000), ..commit };
        self.store.append(vec![commit]).await.remove(0).unwrap();
    }

    fn shows(&self, metric: Metric, value: i64) -> bool {
        let line = format!("{} {value}", metric.name);
        self.metrics.render().lines().any(|shown| shown == line)
    }

    async fn until_shown(&self, metric: Metric, value: i64) {
        until(metric.name, async || self.shows(metric, value)).await;
    }
}

/// Waits for a condition, with a generous time limit.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// Goal: after a failover or a restart an alarm on the age of the position tells of the forwarder that leads, and of no
/// other.
#[tokio::test]
async fn the_position_is_shown_while_a_forwarder_leads_and_from_its_start() {
    let bank = Bank::open().await;
    bank.while_forwarding(async {
        bank.until_shown(FORWARDER_LEADING, 1).await;
        bank.append_once_begun().await;
        bank.until_shown(FORWARDER_POSITION_SECONDS, COMMITTED).await;
    })
    .await;
    assert!(bank.shows(FORWARDER_LEADING, 0) && bank.shows(FORWARDER_POSITION_SECONDS, 0), "it does not lead any more");
    // Nothing is left to publish.
    bank.while_forwarding(bank.until_shown(FORWARDER_POSITION_SECONDS, COMMITTED)).await;
}
