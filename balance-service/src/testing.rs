//! A bank for tests: embedded backends in a folder of their own, and what the tests write and wait for.

use std::time::Duration;

use bytes::Bytes;
use shared::backends::Ports;
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Version;
use shared::event::EncodedEvents;
use shared::id::{AccountId, EventId, Ids};
use shared::index::{AccountStatus, Balance, EmbeddedIndex};
use shared::lease::{EmbeddedLeases, Holder};
use shared::log::EmbeddedLog;
use shared::money::Money;
use shared::owner::Owner;
use shared::partition::PartitionMap;
use shared::sqlite::DataFolder;
use shared::store::{Commit, EmbeddedStore, EventStore, StreamWrite};
use shared::telemetry::MetricsReader;
use tempfile::TempDir;

use crate::BalanceConfig;

/// How long a process may take to show a change in its metrics.
const SHOWN_WITHIN: Duration = Duration::from_mins(1);

/// The backends of a bank in one process.
pub(crate) type Embedded = Ports<EmbeddedStore, EmbeddedLog, EmbeddedLeases, EmbeddedIndex>;

/// A bank without events. It is deleted with its folder.
pub(crate) async fn embedded(partitions: PartitionMap) -> (Embedded, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::open(folder.path()).unwrap();
    let clock = Clock::system();
    let backends = Ports {
        store: EmbeddedStore::open(&data).unwrap(),
        log: EmbeddedLog::open(&data, partitions, clock.clone(), Ids::new(clock)).await.unwrap(),
        leases: EmbeddedLeases::open(&data).unwrap(),
        index: EmbeddedIndex::open(&data).unwrap(),
    };
    (backends, folder)
}

/// The configuration of a process that neither reconciles nor verifies by itself.
pub(crate) fn config(partitions: PartitionMap) -> BalanceConfig {
    BalanceConfig {
        holder: Holder("one".into()),
        partitions,
        lease_ttl: Duration::from_secs(1),
        reconcile_every: None,
        verify_every: None,
        keep_previous: Duration::from_hours(1),
    }
}

/// The document of an account without money, at this version.
pub(crate) fn document(account: AccountId, version: u64) -> Balance {
    Balance {
        id: account,
        event_id: EventId::from_number(version.into()),
        owner: Owner::new("Paulo").unwrap(),
        status: AccountStatus::Open,
        currency: "EUR".parse().unwrap(),
        balance: Money::ZERO,
        version: Version::new(version),
        opened_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

/// Appends events to an account that is at this version.
pub(crate) async fn append(store: &EmbeddedStore, account: AccountId, version: u64, events: EncodedEvents) {
    let writes = vec![StreamWrite { stream: account, expected: Version::new(version), events }];
    let id = Ids::new(Clock::system()).commit();
    let commit = Commit { id, time: Timestamp::EPOCH, key: None, receipt: Bytes::new(), writes };
    store.append(vec![commit]).await.remove(0).unwrap();
}

/// Waits until a line is among the metrics.
pub(crate) async fn shown(metrics: &MetricsReader, line: &str) {
    let waiting = async {
        while !metrics.render().lines().any(|shown| shown == line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SHOWN_WITHIN, waiting).await.is_ok(), "the metrics never show {line}");
}
