//! The store in one SQLite file of the data folder, `store.db`, for a bank without servers.
//!
//! An append goes to the end of table `recent`, one row per write, so a commit touches few pages however many accounts
//! it is for. Recent rows are in memory too ([`recent`]). When enough have gathered, they are sorted ([`settle`]): the
//! writes into `writes`, clustered by (slot, stream, first version), where reading a stream and scanning a partition
//! touch neighbouring rows (laws S2, S6); ids, idempotency keys and receipts into `commits`, for ever (law S4); the
//! order of the feed into `positions`. Rows up to a position S have left `recent`: these are *settled*.
//!
//! G1  Positions number the writes in append order, without a gap: 1 to S are in `positions` and `writes`, and their
//!     commits in `commits`; S + 1 and later are in `recent`.
//! G2  Whenever no transaction is under way and no commit's outcome is unknown, memory holds exactly the committed rows
//!     of `recent`.
//! G3  The writer judges commits by what the file holds within its transaction, even when the transaction is run again.
//! G4  A read sees the writes of a single committed state, which includes every write answered before the read began.
//! G5  A slice of the sorting is part of one transaction, which also records in the file how far the sorting has come.
//!     Wherever a process is killed, the next one continues with the next slice.
//! G6  The number of recent rows is bounded.
//!
//! Why they hold, wherever a process may be killed:
//!
//! - *Between an append and memory*: an append is part of one transaction. If the process dies after it, the next
//!   process reads the rows when it starts. Otherwise `committed` updates memory, before the append is answered and
//!   before anything else is written (G1, G2).
//! - *In a transaction that is rolled back or run again*: judging adds rows to memory after the last committed one,
//!   where readers do not see them yet. Every append first asks the file for its last position and removes later rows
//!   from memory; if the file has more rows than memory, which can only follow a commit whose outcome is unknown, it
//!   refuses to continue (G3).
//! - *While writes are sorted*: their rows stay in `recent` and in memory. Table `sorting` records, in the transaction
//!   that inserts them, up to which position and which slot they are in `writes` as well, so none is inserted twice
//!   (G5). Readers of `writes` skip rows after S. A slice runs after the appends of its transaction and moves none of
//!   them, only rows committed before. If it fails, the appends are run again without it.
//! - *While rows leave*: once all slots of the next rows are in `writes`, one transaction inserts their positions and
//!   commits into the other tables and deletes the rows, so S grows by whole rows (G1). Memory drops them after that
//!   (G2). A commit with several writes may be split here: its id, key and receipt are in the row of its first write.
//! - *At a clean close*: everything is settled, by the same slices.
//!
//! Why a read sees one state (G4): it first takes S, the last committed position L and the rows between them from
//! memory, which has every answered write. Then it opens its transaction in the file and takes the rows up to S, by
//! their positions, from `writes`. All of them are there: memory drops rows only once they are, and nothing is ever
//! removed from `writes`. So it has 1 to L, each once, whatever is appended and sorted meanwhile. A page needs no more:
//! its part from memory has as many events as the whole page may have, or all there are. Looking up a commit or the
//! last versions of streams needs no such cut, and may find newer ones.
//!
//! Why the feed skips nothing (law S3): it reads positions up to S from `positions` and later ones from memory, and
//! neither has a gap (G1). The single writer thread commits one transaction after another, so a reader that sees a
//! position sees all lower ones. A transaction that is rolled back returns its numbers. A feed that is far behind may
//! read ahead ([`ahead`]): settled rows neither move nor change, so a chunk read early is what the same read would find
//! later, and the next chunk begins after its last position. A chunk that cannot be read is reported once, when its
//! turn comes, and read again; nothing after it is handed out before.
//!
//! Why recent rows are bounded (G6): a slice is due per fixed number of appended rows, so that a run is over when as
//! many have gathered as it moves. If slices keep failing, every turn tries one, and at the bound appends are refused.
//!
//! Appends of all waiting callers share one transaction and one fsync (laws Q1, Q2 of [`crate::sqlite`]). Everything is
//! checked before anything is inserted, so a refused commit leaves nothing to undo (laws S1, S5).

mod ahead;
mod append;
mod feed;
mod read;
mod recent;
mod register;
mod settle;
mod snapshot;
mod view;

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, Row};

pub use feed::EmbeddedFeed;

use self::append::Batch;
use self::recent::Shared;
use self::settle::{SIZES, Settler, Sizes};
use self::view::View;
use super::{AppendError, Appended, Commit, EventStore, FeedError, IdempotencyKey, ScanPage, StoredCommit};
use crate::clock::Timestamp;
use crate::coordinate::{Position, Version};
use crate::error::BackendError;
use crate::event::{EncodedEvents, Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::SlotRange;
use crate::sqlite::{DataFolder, Database, Durability, FileSpec, OpenError};

const STORE: FileSpec = FileSpec {
    file_name: "store.db",
    // "BNK" and the number of the file.
    application_id: 0x424E_4B01,
    schema: &[include_str!("schema_1.sql"), include_str!("schema_2.sql")],
    durability: Durability::Full,
};

/// The store of an embedded bank. Clones share it; dropping the last one closes the file, and blocks meanwhile.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    database: Database,
    recent: Shared,
    sizes: Sizes,
}

impl EmbeddedStore {
    /// Whether a folder holds a store, sound or not. Opens, locks and creates nothing.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        let file = STORE.file_name;
        [file.to_owned(), format!("{file}-wal")].iter().any(|name| folder.join(name).exists())
    }

    /// Refuses a folder that has lost its store: a file that is built from it is there, but `store.db` is not. Opening
    /// it would begin an empty bank, whose queries show the balances of the lost one. Opens, locks and creates nothing.
    ///
    /// A first start that was interrupted leaves no such folder. [`AnyBackends`](crate::backends::AnyBackends) opens
    /// the store before anything else, and a new file is renamed into its place, and the folder synced, before it
    /// counts as open. So where one of the other files is, `store.db` was before, even if the process was killed at any
    /// point, or the machine lost power. A folder whose other files belong to a store on a server is refused as well:
    /// what they hold is not in the store that would be created.
    ///
    /// A write-ahead log that has lost its file is left to [`EmbeddedStore::open`], which refuses it as damaged: it may
    /// hold commits, and is not to be deleted.
    ///
    /// # Errors
    /// [`OpenError::StoreMissing`] says what to do.
    pub fn refuse_lost(folder: &Path) -> Result<(), OpenError> {
        let path = folder.join(STORE.file_name);
        let log = folder.join(format!("{}-wal", STORE.file_name));
        let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
        match DataFolder::built_from_store(folder) {
            Some(beside) if !path.exists() && !has_log => Err(OpenError::StoreMissing { path, beside }),
            Some(_) | None => Ok(()),
        }
    }

    /// Opens the store of a data folder, or creates an empty one.
    ///
    /// # Errors
    /// [`OpenError`] for a file that is damaged, foreign or from a newer release; the file is left unchanged.
    pub fn open(folder: &DataFolder) -> Result<Self, OpenError> {
        Self::open_sized(folder, SIZES)
    }

    fn open_sized(folder: &DataFolder, sizes: Sizes) -> Result<Self, OpenError> {
        let mut shared = None;
        let database = Database::open_kept_up(folder, STORE, |connection| {
            let recent = shared.insert(Shared::new(read::recent(connection)?));
            Ok(Settler::new(recent.clone(), sizes))
        })?;
        let recent = shared.expect("a file that is open has its upkeep");
        Ok(Self { database, recent, sizes })
    }
}

impl EventStore for EmbeddedStore {
    type Feed = EmbeddedFeed;

    async fn append(&self, commits: Vec<Commit>) -> Vec<Result<Appended, AppendError>> {
        let asked = commits.len();
        let (recent, committed, rows_max) = (self.recent.clone(), self.recent.clone(), self.sizes.rows_max);
        let append = move |connection: &_| append::append(connection, &recent, rows_max, &commits);
        let committed = move |batch: &Batch| committed.write().commit_through(batch.last);
        match self.database.write_and_tell("append", append, committed).await {
            Ok(Batch { fates, .. }) => fates.into_iter().map(|fate| fate.map_err(AppendError::from)).collect(),
            Err(failure) => (0..asked).map(|_| Err(failure.copy().into())).collect(),
        }
    }

    async fn read_streams(
        &self,
        streams: &[StreamAfter],
        limit_each: usize,
    ) -> Result<Vec<Vec<Recorded>>, BackendError> {
        let (recent, settled) = {
            let recent = self.recent.read();
            let committed = recent.committed();
            let recent = streams.iter().map(|asked| committed.stream(*asked, limit_each)).collect::<Vec<_>>();
            (recent, committed.settled())
        };
        let open: Vec<StreamAfter> =
            streams.iter().zip(&recent).filter(|(_, (_, is_whole))| !is_whole).map(|(asked, _)| *asked).collect();
        let read = move |connection: &_| read::streams(connection, open.into_iter(), limit_each, settled);
        let is_whole = recent.iter().all(|(_, is_whole)| *is_whole);
        let older = if is_whole { Vec::new() } else { self.database.read("read_streams", read).await? };
        let mut older = older.into_iter();
        let join = |(newer, is_whole)| if is_whole { newer } else { joined(older.next(), newer, limit_each) };
        Ok(recent.into_iter().map(join).collect())
    }

    async fn find_commits(&self, ids: &[CommitId]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        let find = |committed: View<'_>, id: &CommitId| committed.commit(id).cloned();
        self.find("find_commits", ids, find, read::commits).await
    }

    async fn find_keys(&self, keys: &[IdempotencyKey]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        let find = |committed: View<'_>, key: &IdempotencyKey| committed.key(key).cloned();
        self.find("find_keys", keys, find, read::keys).await
    }

    async fn scan(&self, slots: SlotRange, after: Option<StreamAfter>, limit: usize) -> Result<ScanPage, BackendError> {
        let (newer, settled) = {
            let recent = self.recent.read();
            (recent.committed().page(slots, after, limit), recent.committed().settled())
        };
        let read = move |connection: &_| read::scan(connection, slots, after, limit, settled, newer);
        self.database.read("scan", read).await
    }

    async fn heads(
        &self,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        let newer = self.recent.read().committed().heads(slots, after, limit);
        self.database.read("heads", move |connection| read::heads(connection, slots, after, limit, newer)).await
    }

    async fn head(&self) -> Result<Position, BackendError> {
        // Memory would keep answering when nothing can be written any more, and readiness checks ask for the head.
        self.database.check_writer("head").await?;
        let last = self.recent.read().committed().last();
        Ok(if last == 0 { Position::Start } else { Position::Number(last) })
    }

    async fn feed(&self, after: Position) -> Result<EmbeddedFeed, FeedError> {
        EmbeddedFeed::open(self.database.clone(), self.recent.clone(), self.sizes.ahead, after)
    }
}

/// A commit or `None`, for each one asked for.
type Found = Vec<Option<StoredCommit>>;

impl EmbeddedStore {
    /// Looks up commits in memory, and those not found there in the file.
    async fn find<K: Clone + Send + 'static>(
        &self,
        operation: &'static str,
        asked: &[K],
        recent: impl Fn(View<'_>, &K) -> Option<StoredCommit>,
        settled: fn(&Connection, &[K]) -> rusqlite::Result<Found>,
    ) -> Result<Found, BackendError> {
        let mut found: Found = {
            let shared = self.recent.read();
            asked.iter().map(|one| recent(shared.committed(), one)).collect()
        };
        let open: Vec<K> =
            asked.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(one, _)| one.clone()).collect();
        if !open.is_empty() {
            let older = self.database.read(operation, move |connection| settled(connection, &open)).await?;
            found.iter_mut().filter(|found| found.is_none()).zip(older).for_each(|(found, older)| *found = older);
        }
        Ok(found)
    }
}

/// The writes of a stream on disk, then those in memory, until there are enough events.
fn joined(older: Option<Vec<Recorded>>, newer: Vec<Recorded>, limit: usize) -> Vec<Recorded> {
    let mut records = older.unwrap_or_default();
    let mut events: usize = records.iter().map(|record| record.events.count as usize).sum();
    for record in newer {
        if events >= limit {
            break;
        }
        events += record.events.count as usize;
        records.push(record);
    }
    records
}

/// Reads a write from a row of `stream, first_version, count, time, events`.
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

#[cfg(test)]
mod tests;
