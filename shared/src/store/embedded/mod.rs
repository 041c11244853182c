//! The store in one SQLite file of the data folder, `store.db`, for a bank that runs without servers.
//!
//! Table `writes` holds one row for each write of a commit to a stream, clustered by (slot, stream, first version):
//! appending to a stream, reading it and scanning a partition touch neighbouring rows (laws S2, S6). Table `commits`
//! remembers ids, idempotency keys and receipts for ever (law S4).
//!
//! Why the feed skips nothing (law S3): `position` numbers the rows of `writes` in the order in which the one writer
//! thread inserts them, and that thread commits one transaction after the other. Whoever sees a position therefore sees
//! all lower ones, and a higher one is visible only later. A transaction that is rolled back gives its numbers back.
//!
//! Appends of all callers that wait share one transaction and one fsync (laws Q1, Q2 of [`crate::sqlite`]). Everything
//! is checked before anything is inserted, so a refused commit needs no undoing (laws S1, S5).

mod append;
mod feed;
mod read;
mod register;
mod snapshot;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::Row;

pub use feed::EmbeddedFeed;

use self::append::Batch;
use super::{AppendError, Appended, Commit, EventStore, FeedEntry, FeedError, IdempotencyKey, ScanPage, StoredCommit};
use crate::clock::Timestamp;
use crate::coordinate::{Position, Version};
use crate::error::BackendError;
use crate::event::{EncodedEvents, Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::SlotRange;
use crate::sqlite::{DataFolder, Database, Durability, FileSpec, OpenError, Tail};

const STORE: FileSpec = FileSpec {
    file_name: "store.db",
    // "BNK" and the number of the file.
    application_id: 0x424E_4B01,
    schema: &[include_str!("schema_1.sql")],
    durability: Durability::Full,
};

/// How many of the newest writes are kept in memory for feeds that follow them: some megabytes.
const NEWEST_KEPT: usize = 8_192;

/// The newest writes by position.
type Newest = Arc<Mutex<Tail<FeedEntry>>>;

/// The store of an embedded bank. Clones share it; the last one that is dropped closes the file, and waits for that.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    database: Database,
    newest: Newest,
}

impl EmbeddedStore {
    /// Opens the store of a data folder, or makes an empty one.
    ///
    /// # Errors
    /// [`OpenError`] for a file that is damaged, foreign or from a newer release; it was left as it is.
    pub fn open(folder: &DataFolder) -> Result<Self, OpenError> {
        Ok(Self { database: Database::open(folder, STORE)?, newest: Arc::new(Mutex::new(Tail::new(NEWEST_KEPT))) })
    }
}

impl EventStore for EmbeddedStore {
    type Feed = EmbeddedFeed;

    async fn append(&self, commits: Vec<Commit>) -> Vec<Result<Appended, AppendError>> {
        let asked = commits.len();
        let (commits, newest) = (Arc::new(commits), Arc::clone(&self.newest));
        let fed = Arc::clone(&commits);
        let append = move |connection: &_| append::append(connection, &commits);
        let committed = move |batch: &Batch| {
            let (first, entries) = batch.fed(&fed);
            newest.lock().unwrap_or_else(PoisonError::into_inner).push(first, entries);
        };
        match self.database.write_and_tell("append", append, committed).await {
            Ok(Batch { fates, .. }) => fates.into_iter().map(|fate| fate.map_err(AppendError::from)).collect(),
            Err(failure) => one_each(&failure, asked),
        }
    }

    async fn read_streams(
        &self,
        streams: &[StreamAfter],
        limit_each: usize,
    ) -> Result<Vec<Vec<Recorded>>, BackendError> {
        let streams = streams.to_vec();
        self.database.read("read_streams", move |connection| read::streams(connection, &streams, limit_each)).await
    }

    async fn find_commits(&self, ids: &[CommitId]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        let ids = ids.to_vec();
        self.database.read("find_commits", move |connection| read::commits(connection, &ids)).await
    }

    async fn find_keys(&self, keys: &[IdempotencyKey]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        let keys = keys.to_vec();
        self.database.read("find_keys", move |connection| read::keys(connection, &keys)).await
    }

    async fn scan(&self, slots: SlotRange, after: Option<StreamAfter>, limit: usize) -> Result<ScanPage, BackendError> {
        self.database.read("scan", move |connection| read::scan(connection, slots, after, limit)).await
    }

    async fn heads(
        &self,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        self.database.read("heads", move |connection| read::heads(connection, slots, after, limit)).await
    }

    async fn head(&self) -> Result<Position, BackendError> {
        let last = self.database.read("head", read::last_position).await?;
        Ok(if last == 0 { Position::Start } else { Position::Number(last) })
    }

    async fn feed(&self, after: Position) -> Result<EmbeddedFeed, FeedError> {
        EmbeddedFeed::open(self.database.clone(), Arc::clone(&self.newest), after).await
    }
}

/// The failure of a whole batch, told to each of its commits.
fn one_each(failure: &BackendError, commits: usize) -> Vec<Result<Appended, AppendError>> {
    let (operation, effect, retry) = (failure.operation, failure.effect, failure.retry);
    let reason: Arc<str> = failure.source.to_string().into();
    let told = || BackendError { operation, effect, retry, source: reason.as_ref().into() };
    (0..commits).map(|_| Err(told().into())).collect()
}

/// A write as a row of `stream, first_version, count, time, events`.
fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    Ok(Recorded {
        stream: AccountId::from_bytes(row.get(0)?),
        first_version: Version::new(row.get(1)?),
        time: Timestamp::from_micros(row.get(3)?),
        events: EncodedEvents { count: row.get(2)?, json: blob(row, 4)? },
    })
}

fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}
