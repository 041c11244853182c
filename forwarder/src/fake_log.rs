//! A log of two partitions in memory, each of which is in trouble when a test wants it to be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::clock::Timestamp;
use shared::coordinate::Offset;
use shared::error::BackendError;
use shared::event::Recorded;
use shared::id::AccountId;
use shared::log::contract::plain_entries;
use shared::log::{EmbeddedReader, Extent, Incarnation, PartitionLog, PublishError, ReadError};
use shared::partition::{Partition, PartitionMap};
use shared::store::FeedEntry;
use tokio::time::sleep;

pub(crate) const ONE: Partition = Partition::new(1);
pub(crate) const TWO: Partition = Partition::new(2);

/// How long a full partition asks its publisher to wait.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// How long a call may take.
const CALL_MAX: Duration = Duration::from_secs(5);

/// What is wrong with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Every call fails.
    Fails,
    /// Every call fails after as long as a call may take.
    Silent,
    /// It answers, and takes neither writes nor another incarnation.
    Sealed,
    /// It has no room.
    Full,
    /// It takes no writes, though it ends where their publisher says.
    Refuses,
    /// It takes this long to take writes.
    Slow(Duration),
}

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeLog(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<Partition, Held>,
    troubles: BTreeMap<Partition, Trouble>,
    publishes: usize,
    longest_publish: usize,
}

/// What a partition holds.
#[derive(Debug, Default)]
struct Held {
    life: u64,
    trimmed: Offset,
    /// The versions of all records since the incarnation began, in the order of their offsets.
    versions: Vec<u64>,
}

impl Held {
    fn extent(&self) -> Extent {
        let incarnation = Incarnation(format!("life {}", self.life).into());
        Extent { incarnation, trimmed: self.trimmed, last: Offset::new(self.versions.len() as u64) }
    }
}

/// The partitions of the log.
pub(crate) fn partitions() -> PartitionMap {
    PartitionMap::new(2).expect("a number of partitions")
}

/// The write of this version of the first account that belongs to a partition.
pub(crate) fn entry(partition: Partition, version: u64) -> FeedEntry {
    let mut accounts = (0..=u8::MAX).map(|byte| AccountId::from_bytes([byte; 16]));
    let of_partition = accounts.find(|account| partitions().partition_of(account) == partition);
    let stream = of_partition.expect("half of all accounts belong to it");
    let FeedEntry { position, recorded } = plain_entries(version..=version).remove(0);
    FeedEntry { position, recorded: Recorded { stream, ..recorded } }
}

impl FakeLog {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings a partition into trouble, or ends it.
    pub(crate) fn make(&self, partition: Partition, trouble: Option<Trouble>) {
        self.with(|state| match trouble {
            Some(trouble) => state.troubles.insert(partition, trouble),
            None => state.troubles.remove(&partition),
        });
    }

    /// A partition loses all its records, and its offsets are assigned again.
    pub(crate) fn lose_all(&self, partition: Partition) {
        self.with(|state| state.partitions.entry(partition).or_default().versions.clear());
    }

    /// The extent of a partition, whatever trouble it is in.
    pub(crate) fn extent_of(&self, partition: Partition) -> Extent {
        self.with(|state| state.partitions.entry(partition).or_default().extent())
    }

    /// The versions of a partition's records, in the order of their offsets.
    pub(crate) fn versions(&self, partition: Partition) -> Vec<u64> {
        self.with(|state| state.partitions.entry(partition).or_default().versions.clone())
    }

    /// How often something was to be published.
    pub(crate) fn publishes(&self) -> usize {
        self.with(|state| state.publishes)
    }

    /// The most writes that were to be published at once.
    pub(crate) fn longest_publish(&self) -> usize {
        self.with(|state| state.longest_publish)
    }

    fn trouble(&self, partition: Partition) -> Option<Trouble> {
        self.with(|state| state.troubles.get(&partition).copied())
    }

    async fn check(&self, operation: &'static str, partition: Partition) -> Result<(), BackendError> {
        let fails = match self.trouble(partition) {
            Some(Trouble::Fails) => true,
            Some(Trouble::Silent) => {
                sleep(CALL_MAX).await;
                true
            }
            Some(Trouble::Sealed) => operation != "extent",
            Some(Trouble::Full | Trouble::Refuses | Trouble::Slow(_)) | None => false,
        };
        if fails { Err(BackendError::not_done(operation, "out of order")) } else { Ok(()) }
    }
}

impl PartitionLog for FakeLog {
    type Reader = EmbeddedReader;

    async fn extent(&self, partition: Partition) -> Result<Extent, BackendError> {
        self.check("extent", partition).await?;
        Ok(self.extent_of(partition))
    }

    async fn publish(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        self.with(|state| {
            state.publishes += 1;
            state.longest_publish = state.longest_publish.max(batch.len());
        });
        self.check("publish", partition).await?;
        match self.trouble(partition) {
            Some(Trouble::Full) => return Err(PublishError::Full { after: FULL_WAIT }),
            Some(Trouble::Refuses) => return Err(PublishError::Conflict(self.extent_of(partition))),
            Some(Trouble::Slow(by)) => sleep(by).await,
            Some(Trouble::Fails | Trouble::Silent | Trouble::Sealed) | None => {}
        }
        self.with(|state| {
            let held = state.partitions.entry(partition).or_default();
            let extent = held.extent();
            if extent.incarnation != *incarnation || extent.last != after {
                return Err(PublishError::Conflict(extent));
            }
            held.versions.extend(batch.iter().map(|entry| entry.recorded.first_version.get()));
            Ok(held.extent().last)
        })
    }

    async fn reader(&self, _: Partition, _: &Incarnation, _: Offset) -> Result<EmbeddedReader, ReadError> {
        unreachable!("a forwarder reads no records")
    }

    async fn trim(&self, partition: Partition, through: Offset, _: Timestamp) -> Result<u64, BackendError> {
        self.check("trim", partition).await?;
        Ok(self.with(|state| {
            let held = state.partitions.entry(partition).or_default();
            let before = std::mem::replace(&mut held.trimmed, through);
            through.get() - before.get()
        }))
    }

    async fn renew(&self, partition: Partition, incarnation: &Incarnation) -> Result<Extent, BackendError> {
        self.check("renew", partition).await?;
        Ok(self.with(|state| {
            let held = state.partitions.entry(partition).or_default();
            if held.extent().incarnation == *incarnation {
                *held = Held { life: held.life + 1, ..Held::default() };
            }
            held.extent()
        }))
    }
}
