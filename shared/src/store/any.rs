//! The store backend that the settings select.

use bytes::Bytes;

use super::embedded::EmbeddedFeed;
#[cfg(feature = "mongodb")]
use super::mongo::{MongoFeed, MongoStore};
use super::{
    AppendError, Appended, ChangeFeed, Commit, EmbeddedStore, EventStore, FeedBatch, FeedError, IdempotencyKey,
    Register, Registers, ScanPage, Snapshot, Snapshots, StoredCommit, WriteError,
};
use crate::coordinate::{Position, Revision, Version};
use crate::durability::Weakness;
use crate::error::BackendError;
use crate::event::{Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::SlotRange;

/// One of the backends of this port.
#[derive(Clone, Debug)]
pub enum AnyStore {
    /// A file in the data folder.
    Embedded(EmbeddedStore),
    /// Collections of a MongoDB replica set.
    #[cfg(feature = "mongodb")]
    Mongo(MongoStore),
}

/// A feed of one of the backends.
pub enum AnyFeed {
    /// From a file in the data folder.
    Embedded(EmbeddedFeed),
    /// From a MongoDB replica set.
    #[cfg(feature = "mongodb")]
    Mongo(MongoFeed),
}

macro_rules! each {
    ($any:expr, $backend:ident => $call:expr) => {
        match $any {
            Self::Embedded($backend) => $call,
            #[cfg(feature = "mongodb")]
            Self::Mongo($backend) => $call,
        }
    };
}

impl ChangeFeed for AnyFeed {
    async fn next_batch(&mut self, limit: usize) -> Result<FeedBatch, FeedError> {
        each!(self, feed => feed.next_batch(limit).await)
    }
}

impl AnyStore {
    /// Where a server's settings guarantee less than a bank should have; a file's settings are our own.
    pub async fn weaknesses(&self) -> Vec<Weakness> {
        match self {
            Self::Embedded(_) => Vec::new(),
            #[cfg(feature = "mongodb")]
            Self::Mongo(store) => store.weaknesses(&crate::clock::Clock::system()).await,
        }
    }
}

impl EventStore for AnyStore {
    type Feed = AnyFeed;

    async fn append(&self, commits: Vec<Commit>) -> Vec<Result<Appended, AppendError>> {
        each!(self, store => store.append(commits).await)
    }

    async fn read_streams(
        &self,
        streams: &[StreamAfter],
        limit_each: usize,
    ) -> Result<Vec<Vec<Recorded>>, BackendError> {
        each!(self, store => store.read_streams(streams, limit_each).await)
    }

    async fn find_commits(&self, ids: &[CommitId]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        each!(self, store => store.find_commits(ids).await)
    }

    async fn find_keys(&self, keys: &[IdempotencyKey]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        each!(self, store => store.find_keys(keys).await)
    }

    async fn scan(&self, slots: SlotRange, after: Option<StreamAfter>, limit: usize) -> Result<ScanPage, BackendError> {
        each!(self, store => store.scan(slots, after, limit).await)
    }

    async fn heads(
        &self,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        each!(self, store => store.heads(slots, after, limit).await)
    }

    async fn head(&self) -> Result<Position, BackendError> {
        each!(self, store => store.head().await)
    }

    async fn feed(&self, after: Position) -> Result<AnyFeed, FeedError> {
        match self {
            Self::Embedded(store) => store.feed(after).await.map(AnyFeed::Embedded),
            #[cfg(feature = "mongodb")]
            Self::Mongo(store) => store.feed(after).await.map(AnyFeed::Mongo),
        }
    }
}

impl Snapshots for AnyStore {
    async fn load_snapshots(&self, streams: &[AccountId]) -> Result<Vec<Option<Snapshot>>, BackendError> {
        each!(self, store => store.load_snapshots(streams).await)
    }

    async fn save_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), BackendError> {
        each!(self, store => store.save_snapshots(snapshots).await)
    }
}

impl Registers for AnyStore {
    async fn read_register(&self, name: &str) -> Result<Option<Register>, BackendError> {
        each!(self, store => store.read_register(name).await)
    }

    async fn write_register(&self, name: &str, expected: Revision, value: Bytes) -> Result<Revision, WriteError> {
        each!(self, store => store.write_register(name, expected, value).await)
    }

    async fn remove_register(&self, name: &str, expected: Revision) -> Result<(), WriteError> {
        each!(self, store => store.remove_register(name, expected).await)
    }

    async fn list_registers(&self, prefix: &str) -> Result<Vec<(String, Register)>, BackendError> {
        each!(self, store => store.list_registers(prefix).await)
    }
}
