//! What a process shows of its share when the leases do not answer.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::backends::Ports;
use shared::index::EmbeddedIndex;
use shared::lease::{Held, Lease, RenewError};
use shared::log::EmbeddedLog;
use shared::partition::PartitionMap;
use shared::store::EmbeddedStore;
use shared::telemetry::install_metrics;
use tempfile::TempDir;

use super::*;
use crate::testing::{config, embedded, shown};

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
    let partitions = PartitionMap::new(2).unwrap();
    let (Ports { store, log, index, .. }, folder) = embedded(partitions).await;
    let backends = Ports { store, log, leases, index };
    let config = BalanceConfig { lease_ttl: Duration::from_millis(300), ..config(partitions) };
    let (clock, roster) = (Clock::system(), Roster::default());
    let (visibility, right_of_way) = (Visibility::default(), RightOfWay::default());
    (Ownership { backends, config, clock, roster, visibility, right_of_way }, folder)
}

/// Goal: an alarm on the sum of the leases held is raised, not silenced, when Redis is down.
#[tokio::test]
async fn a_process_whose_leases_stop_shows_that_it_owns_nothing() {
    let metrics = install_metrics().unwrap();
    let leases = StoppableLeases::default();
    let (ownership, _folder) = of_two_partitions(leases.clone()).await;
    let looking = async {
        shown(&metrics, &format!("{} 2", LEASES_HELD.name)).await;
        leases.stop();
        shown(&metrics, &format!("{} 0", LEASES_HELD.name)).await;
    };
    tokio::select! {
        biased;
        ended = own_share(ownership, CancellationToken::new()) => panic!("{ended:?}"),
        () = looking => {}
    }
}
