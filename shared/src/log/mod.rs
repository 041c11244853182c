//! The partition log: ordered partitions between the forwarder and the workers.
//!
//! It is a wake-up signal with memory, not the truth: it may lose its end, be emptied or be trimmed, and the store
//! fills the gaps. An *incarnation* names one unbroken life of a partition, so that such a loss is noticed.
//!
//! L1  Within an incarnation offsets are 1, 2, 3, …, and an offset names the same record for as long as that is held.
//! L2  Ignoring repeats, the writes of a stream appear in their partition in version order, because every publisher
//!     publishes in version order without omissions.
//! L3  A publish writes nothing if its `after` is not the end of the partition, or its incarnation is not the
//!     partition's.
//! L4  A reader yields every record after its offset, in offset order, or reports that it cannot; it never skips one.
//! L5  A renewed partition is empty and has an incarnation it never had before.

mod any;
mod body;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod embedded;
pub mod floor;
#[cfg(feature = "nats")]
mod nats;

use std::fmt;
use std::future::Future;
use std::time::Duration;

pub use any::{AnyLog, AnyReader};
pub use embedded::{EmbeddedLog, EmbeddedReader, LogOpenError};
#[cfg(feature = "nats")]
pub use nats::{NatsLog, NatsOpenError, NatsOptions, NatsReader, connect as connect_nats};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::event::Recorded;
use crate::partition::Partition;
use crate::store::FeedEntry;

/// The name of one unbroken life of a partition; compared for equality only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub Box<str>);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a partition holds: the offsets `trimmed + 1 ..= last`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Which life of the partition this is.
    pub incarnation: Incarnation,
    /// The last offset trimmed away; a reader may start after it.
    pub trimmed: Offset,
    /// The newest offset, even if its record was trimmed.
    pub last: Offset,
}

impl Extent {
    /// Whether a partition that once ended at `end`, in this incarnation, has lost records since. One in another
    /// incarnation was renewed by somebody who noticed the loss, so its readers already have the rest from the store.
    #[must_use]
    pub fn has_lost(&self, incarnation: &Incarnation, end: Offset) -> bool {
        self.incarnation == *incarnation && self.last < end
    }
}

/// A write as stored in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub offset: Offset,
    /// The write.
    pub recorded: Recorded,
}

/// Why a publish failed; some or all of the batch may have been written nevertheless.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The partition does not end where the publisher believes: adopt the actual end, or detect a loss.
    #[error("the partition has another end: {0:?}")]
    Conflict(Extent),
    /// The partition is at its size limit: wait, trim, publish again.
    #[error("the partition is full")]
    Full {
        /// How long to wait at least.
        after: Duration,
    },
    /// The log failed. If the effect is unknown, ask for the extent; publishing again is harmless.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why a reader yields nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The partition no longer continues from the reader's offset: it was trimmed beyond it, lost its end, or has
    /// another incarnation. The records in between are in the store.
    #[error("the partition does not continue from the reader's offset: {0:?}")]
    Moved(Extent),
    /// The log failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Ordered partitions; see the laws L1 to L5 of this module.
pub trait PartitionLog: Clone + Send + Sync + 'static {
    /// What [`PartitionLog::reader`] opens.
    type Reader: PartitionReader;

    /// What the partition holds.
    fn extent(&self, partition: Partition) -> impl Future<Output = Result<Extent, BackendError>> + Send;

    /// Appends a batch at the end, which must be `after`; returns the new end. All of it is then as durable as the log.
    fn publish(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> impl Future<Output = Result<Offset, PublishError>> + Send;

    /// Opens a reader after an offset of this incarnation.
    fn reader(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
    ) -> impl Future<Output = Result<Self::Reader, ReadError>> + Send;

    /// Removes the records at or below `through` that were published before `before`; returns how many. A log that
    /// stores records in parts, as messages or rows, removes whole parts: a record stays while any record of its part
    /// must stay, and the last part stays if it alone tells where the partition ends. A log that dates records by its
    /// own clock may remove those that are dated further ahead than `before` lies back. The extent says what is held.
    fn trim(
        &self,
        partition: Partition,
        through: Offset,
        before: Timestamp,
    ) -> impl Future<Output = Result<u64, BackendError>> + Send;

    /// Empties the partition and begins a new incarnation, so that all its readers notice a loss and synchronise with
    /// the store. Does nothing if the partition no longer has `incarnation`: another caller has renewed it.
    fn renew(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
    ) -> impl Future<Output = Result<Extent, BackendError>> + Send;
}

/// Yields a partition's records after an offset.
pub trait PartitionReader: Send + 'static {
    /// The next records, at most `limit`. Waits until there is one, but not for ever: an empty batch shows that the
    /// reader is alive. Cancel safe.
    fn next_batch(&mut self, limit: usize) -> impl Future<Output = Result<Vec<Record>, ReadError>> + Send;
}
