//! The event store: the bank's only source of truth.
//!
//! S1  A commit is taken whole or not at all, even when it writes to several streams.
//! S2  Within a stream, versions are 1, 2, 3, … without a gap or a duplicate.
//! S3  A feed yields the writes of each stream in version order, and every commit that becomes visible after the feed's
//!     position; a commit that was already visible to [`EventStore::head`] may be yielded again, but none is skipped.
//! S4  A commit id is taken once, and so is an idempotency key, across all streams. A repeat writes nothing and returns
//!     the first commit.
//! S5  The commits of a batch take effect in order, each with its own fate. After one that wrote nothing, because it
//!     was refused or another commit has its key, every later commit of the batch that writes to one of its streams is
//!     refused as a conflict: it was decided on something that did not happen, even if its version happens to fit.
//! S6  A scan yields the streams of a slot range ordered by (slot, stream, version), each stream complete up to at
//!     least the head it had when the scan passed it.
//! S7  An acknowledged commit survives the death of the process, and of the machine as far as its disk keeps promises.
//!
//! Why a unique first version suffices for optimistic concurrency: readers see whole writes, so the next version a
//! writer expects is always the end of some write plus one. Two writers that read the same state collide on it; a stale
//! writer collides with the write that made it stale.
//!
//! Besides the events, a store keeps [`Snapshots`] (a cache for long streams) and [`Registers`] (small durable values
//! with compare-and-set: the forwarder's checkpoint, the partition map, rebuild jobs).

mod any;
mod commit;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod embedded;
#[cfg(feature = "mongodb")]
mod mongo;
mod register;
mod snapshot;

use std::future::Future;
use std::time::Duration;

pub use any::{AnyFeed, AnyStore};
pub use commit::{
    AppendError, Appended, Commit, IdempotencyKey, KEY_CHARS_MAX, KeyError, KeyedRequest, StoredCommit, StreamWrite,
};
pub use embedded::{EmbeddedFeed, EmbeddedStore};
#[cfg(feature = "mongodb")]
pub use mongo::{MongoFeed, MongoOpenError, MongoStore};
pub use register::{Register, Registers, WriteError};
pub use snapshot::{Snapshot, Snapshots};

use crate::coordinate::{Position, Version};
use crate::error::BackendError;
use crate::event::{Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::SlotRange;

/// How long a call looks for a server that accepts it. If there is none, the call fails then, without effect. A
/// caller's own timeout must be longer: a call given up earlier may have taken effect.
pub const SERVER_FOUND_WITHIN: Duration = Duration::from_millis(1_500);

/// Everything the services need from the store's backend.
pub trait Store: EventStore + Snapshots + Registers {}

impl<T: EventStore + Snapshots + Registers> Store for T {}

/// Streams of events; see the laws S1 to S7 of this module.
pub trait EventStore: Clone + Send + Sync + 'static {
    /// The feed that [`EventStore::feed`] opens.
    type Feed: ChangeFeed;

    /// Appends a batch. Returns one answer per commit, in the order of the commits.
    fn append(&self, commits: Vec<Commit>) -> impl Future<Output = Vec<Result<Appended, AppendError>>> + Send;

    /// Continues reading many streams at once, each after the version its reader has, until at least `limit_each`
    /// events are read or the stream ends. An unknown stream is empty. The answers are in the order of `streams`.
    fn read_streams(
        &self,
        streams: &[StreamAfter],
        limit_each: usize,
    ) -> impl Future<Output = Result<Vec<Vec<Recorded>>, BackendError>> + Send;

    /// The commits with these ids, in the order of `ids`.
    fn find_commits(
        &self,
        ids: &[CommitId],
    ) -> impl Future<Output = Result<Vec<Option<StoredCommit>>, BackendError>> + Send;

    /// The commits with these idempotency keys, in the order of `keys`.
    fn find_keys(
        &self,
        keys: &[IdempotencyKey],
    ) -> impl Future<Output = Result<Vec<Option<StoredCommit>>, BackendError>> + Send;

    /// A page of a scan (law S6): at most about `limit` events of the range's streams, continuing after the end of the
    /// previous page.
    fn scan(
        &self,
        slots: SlotRange,
        after: Option<StreamAfter>,
        limit: usize,
    ) -> impl Future<Output = Result<ScanPage, BackendError>> + Send;

    /// A page of the range's streams with their last versions, ordered by (slot, stream), at most `limit` of them. A
    /// page with fewer than `limit` is the last.
    fn heads(
        &self,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(AccountId, Version)>, BackendError>> + Send;

    /// The position after every commit that is visible now.
    fn head(&self) -> impl Future<Output = Result<Position, BackendError>> + Send;

    /// Opens a feed after a position.
    fn feed(&self, after: Position) -> impl Future<Output = Result<Self::Feed, FeedError>> + Send;
}

/// Yields the store's writes after a position.
pub trait ChangeFeed: Send + 'static {
    /// Returns the next writes, at most `limit`. Waits until there is one, but not forever: an empty batch shows that
    /// the feed is alive, and may carry a newer position. Cancel-safe: a dropped call loses nothing.
    fn next_batch(&mut self, limit: usize) -> impl Future<Output = Result<FeedBatch, FeedError>> + Send;
}

/// A batch of writes in the order of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedBatch {
    /// The writes.
    pub entries: Vec<FeedEntry>,
    /// Where to resume after all of them.
    pub reached: Position,
}

/// One write, and where a feed resumes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// Where to resume after this write.
    pub position: Position,
    /// The write.
    pub recorded: Recorded,
}

/// Why a feed cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The store no longer knows the position: scan the store, then open a feed at the head noted before the scan.
    #[error("the store no longer holds what follows position {0}")]
    Lost(Position),
    /// The store failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// One page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// The writes, ordered by (slot, stream, version).
    pub records: Vec<Recorded>,
    /// Where the next page begins; `None` once the range is done.
    pub next: Option<StreamAfter>,
}
