//! What a process shows of its share when the leases do not answer.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::backends::Ports;
use shared::id::Ids;
use shared::index::EmbeddedIndex;
use shared::lease::{Held, Lease, RenewError};
use shared::log::EmbeddedLog;
use shared::partition::PartitionMap;
use shared::sqlite::DataFolder;
use shared::store::EmbeddedStore;
use shared::telemetry::{MetricsReader, install_metrics};
use tempfile::TempDir;

use super::*;

/// How long a process may take to show a change in its metrics.
const SHOWN_WITHIN: Duration = Duration::from_mins(1);

/// Leases that are granted to whoever asks, until they stop: then no call is answered any more.
#[derive(Clone, Default)]
struct StoppableLeases(Arc<AtomicBool>);

impl StoppableLeases {
    fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    async fn answer(&self) {
        if self.0.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }
}

impl LeaseStore for StoppableLeases {
    async fn acquire(
        &self,
        name: &LeaseName,
        holder: &Holder,
        _: Duration,
        above: Epoch,
    ) -> Result<Option<Lease>, BackendError> {
        self.answer().await;
        Ok(Some(Lease::granted(name.clone(), holder.clone(), above.next())))
    }

    async fn renew(&self, _: &Lease, _: Duration) -> Result<(), RenewError> {
        self.answer().await;
        Ok(())
    }

    async fn release(&self, _: Lease) -> Result<(), BackendError> {
        self.answer().await;
        Ok(())
    }

    async fn list(&self, _: &str) -> Result<Vec<Held>, BackendError> {
        self.answer().await;
        Ok(Vec::new())
    }
}

type Stoppable = Ports<EmbeddedStore, EmbeddedLog, StoppableLeases, EmbeddedIndex>;

/// The ownership of two partitions of a bank without events.
async fn of_two_partitions(leases: StoppableLeases) -> (Ownership<Stoppable>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::open(folder.path()).unwrap();
    let (clock, partitions) = (Clock::system(), PartitionMap::new(2).unwrap());
    let backends = Ports {
        store: EmbeddedStore::open(&data).unwrap(),
        log: EmbeddedLog::open(&data, partitions, clock.clone(), Ids::new(clock.clone())).await.unwrap(),
        leases,
        index: EmbeddedIndex::open(&data).unwrap(),
    };
    let config = BalanceConfig {
        holder: Holder("one".into()),
        partitions,
        lease_ttl: Duration::from_millis(300),
        reconcile_every: None,
        keep_previous: Duration::from_hours(1),
        verify_every: None,
    };
    let (visibility, right_of_way) = (Visibility::default(), RightOfWay::default());
    (Ownership { backends, config, clock, roster: Roster::default(), visibility, right_of_way }, folder)
}

/// Waits until the metrics show that this many partitions are owned.
async fn shown(metrics: &MetricsReader, partitions: usize) {
    let line = format!("{} {partitions}", LEASES_HELD.name);
    let waiting = async {
        while !metrics.render().lines().any(|shown| shown == line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SHOWN_WITHIN, waiting).await.is_ok(), "the metrics never show {line}");
}

/// Goal: an alarm on the sum of the leases held is raised, not silenced, when Redis is down.
#[tokio::test]
async fn a_process_whose_leases_stop_shows_that_it_owns_nothing() {
    let metrics = install_metrics().unwrap();
    let leases = StoppableLeases::default();
    let (ownership, _folder) = of_two_partitions(leases.clone()).await;
    let looking = async {
        shown(&metrics, 2).await;
        leases.stop();
        shown(&metrics, 0).await;
    };
    tokio::select! {
        biased;
        ended = own_share(ownership, CancellationToken::new()) => panic!("{ended:?}"),
        () = looking => {}
    }
}
