//! A store of which a forwarder needs the feed alone: one partition gets a write again and again, the others none.

use std::time::Duration;

use bytes::Bytes;
use shared::coordinate::{Position, Revision, Version};
use shared::error::BackendError;
use shared::event::{Recorded, StreamAfter};
use shared::id::{AccountId, CommitId};
use shared::partition::{Partition, SlotRange};
use shared::store::{
    AppendError, Appended, ChangeFeed, Commit, EventStore, FeedBatch, FeedError, IdempotencyKey, Register, Registers,
    ScanPage, Snapshot, Snapshots, StoredCommit, WriteError,
};
use tokio::time::sleep;

use crate::fake_log::entry;

/// What a forwarder never asks for.
const READS_THE_FEED_ALONE: &str = "a forwarder reads the feed alone";

/// A store that was empty until now. It keeps nothing: whoever starts again starts at its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FakeStore {
    /// The partition that all writes belong to.
    pub(crate) partition: Partition,
    /// How long it takes until the next one comes.
    pub(crate) every: Duration,
}

/// The feed from its beginning.
pub(crate) struct FakeFeed {
    store: FakeStore,
    /// How many writes it has yielded.
    yielded: u64,
}

impl ChangeFeed for FakeFeed {
    async fn next_batch(&mut self, _: usize) -> Result<FeedBatch, FeedError> {
        sleep(self.store.every).await;
        self.yielded += 1;
        let entries = vec![entry(self.store.partition, self.yielded)];
        Ok(FeedBatch { entries, reached: Position::Number(self.yielded) })
    }
}

impl EventStore for FakeStore {
    type Feed = FakeFeed;

    async fn append(&self, _: Vec<Commit>) -> Vec<Result<Appended, AppendError>> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }

    async fn read_streams(&self, _: &[StreamAfter], _: usize) -> Result<Vec<Vec<Recorded>>, BackendError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }

    async fn find_commits(&self, _: &[CommitId]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }

    async fn find_keys(&self, _: &[IdempotencyKey]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }

    async fn scan(&self, _: SlotRange, _: Option<StreamAfter>, _: usize) -> Result<ScanPage, BackendError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }

    async fn heads(
        &self,
        _: SlotRange,
        _: Option<AccountId>,
        _: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }

    async fn head(&self) -> Result<Position, BackendError> {
        Ok(Position::Start)
    }

    async fn feed(&self, _: Position) -> Result<FakeFeed, FeedError> {
        Ok(FakeFeed { store: *self, yielded: 0 })
    }
}

impl Snapshots for FakeStore {
    async fn load_snapshots(&self, _: &[AccountId]) -> Result<Vec<Option<Snapshot>>, BackendError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }

    async fn save_snapshots(&self, _: Vec<Snapshot>) -> Result<(), BackendError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }
}

impl Registers for FakeStore {
    async fn read_register(&self, _: &str) -> Result<Option<Register>, BackendError> {
        Ok(None)
    }

    async fn write_register(&self, _: &str, expected: Revision, _: Bytes) -> Result<Revision, WriteError> {
        Ok(expected.next())
    }

    async fn remove_register(&self, _: &str, _: Revision) -> Result<(), WriteError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }

    async fn list_registers(&self, _: &str) -> Result<Vec<(String, Register)>, BackendError> {
        unreachable!("{READS_THE_FEED_ALONE}")
    }
}
