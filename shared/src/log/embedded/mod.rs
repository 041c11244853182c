//! The log in one SQLite file of the data folder, `log.db`, for a bank that runs without servers.
//!
//! A crash of the process loses nothing. A crash of the machine may lose the newest transactions, because they are not
//! fsynced ([`Durability::Normal`]): everything in the log is also in the store, which is fsynced, and an fsync per
//! batch would pay twice for the same thing. Such a loss needs no special treatment: when the log is opened for the
//! first time since the machine booted, every partition begins a new incarnation (law L5). So no offset can come to
//! name a different record (law L1), readers with an older offset learn that the partition moved (law L4), and what is
//! missing is read from the store. The same happens to a copy that is restored on another machine. The log then begins
//! in a new file, and the old one is removed: to empty gigabytes page by page would keep the bank from starting.
//!
//! Y1  A publish is one transaction: all of its records and the new end of the partition, or nothing.
//! Y2  A row holds a part of a batch ([`super::body`]), up to 1,000 records, because a row costs far more than a record
//!     in it (ADR 15). The rows of an incarnation follow each other without a gap up to the end of the partition. A
//!     read that finds a gap or an invalid body fails and reports that the file is damaged; it skips nothing.
//! Y3  Trimming removes whole rows, so the extent begins where a row begins. Even the last row may go, because the end
//!     of the partition is stored beside the rows. A row that is dated further ahead than old ones lie back was dated
//!     by a wrong clock, and counts as old: otherwise it and all behind it would stay until that date.
//!
//! Why they keep the laws of the log. Offsets have no gap (law L1) because a publish reads and moves the end of its
//! partition in the transaction in which it writes, and one thread runs one transaction after the other (Y1). A read
//! sees one committed state, so the extent and the rows that it finds belong together (law L4). The key of a row is its
//! last record, so the first row after a place holds the next record, even if the place lies within that row; the row's
//! record count tells where it begins, and so whether something before it is missing (Y2).

mod file;
mod newest;
mod part;
mod reader;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::info;

use super::{Extent, Incarnation, PartitionLog, PublishError, ReadError, Record, body};
use crate::clock::{Clock, Timestamp};
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::id::Ids;
use crate::partition::{Partition, PartitionMap};
use crate::sqlite::{DataFolder, Database, Durability, FileSpec, OpenError};
use crate::store::FeedEntry;
use file::{Made, Published, Trimmed};
use newest::Newest;
use part::Part;
pub use reader::EmbeddedReader;

const LOG: FileSpec = FileSpec {
    file_name: "log.db",
    // "BNK" and the number of the file.
    application_id: 0x424E_4B02,
    schema: &[include_str!("schema_1.sql"), include_str!("schema_2.sql")],
    durability: Durability::Normal,
};

/// The most records in a partition, some gigabytes each: enough for a long stop of the workers, and a limit that is
/// reached before the disk is full.
const RECORDS_MAX: u64 = 10_000_000;

/// How long a publisher waits before it tries a full partition again.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// The most records deleted in one transaction, so that trimming does not keep publishers waiting: five full rows, or
/// as many rows of a single record each.
const TRIMMED_AT_ONCE: u64 = 5_000;

/// A transaction that deletes no more than this was not stopped by [`TRIMMED_AT_ONCE`]: that leaves less than a row.
const TRIMMED_FEW: u64 = TRIMMED_AT_ONCE - body::RECORDS_MAX as u64;

/// Where Linux identifies the boot of the machine. Without this file, every start of the process counts as a boot.
const MACHINE_START_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// The file cannot be used; it was left as it is.
    #[error(transparent)]
    File(#[from] OpenError),
    /// With another number of partitions, the records of many accounts would be in the wrong place.
    #[error(
        "{file} was created with {stored} partitions, not {asked}: set --partitions {stored} (BANK_PARTITIONS={stored}), \
         or delete {file}* and start with {asked}; nothing is lost, the workers read what they need from the store"
    )]
    Partitions {
        /// The file.
        file: String,
        /// How many it was created with.
        stored: u16,
        /// How many were asked for.
        asked: u16,
    },
    /// The file failed after it was opened.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// The log of an embedded bank. Clones share it; dropping the last one closes the file and waits for that.
#[derive(Clone, Debug)]
pub struct EmbeddedLog {
    database: Database,
    partitions: PartitionMap,
    clock: Clock,
    ids: Ids,
    news: News,
    newest: Newest,
}

impl EmbeddedLog {
    /// Where the log of a data folder is.
    pub(crate) fn file_in(folder: &Path) -> PathBuf {
        folder.join(LOG.file_name)
    }

    /// Opens the log of a data folder, or creates an empty one. `clock` dates publishes, `ids` names incarnations.
    ///
    /// # Errors
    /// [`LogOpenError`] says what is wrong and how to fix it.
    pub async fn open(
        folder: &DataFolder,
        partitions: PartitionMap,
        clock: Clock,
        ids: Ids,
    ) -> Result<Self, LogOpenError> {
        let asked = Made { partitions: partitions.partitions(), machine_start: machine_start(&ids) };
        let database = Self::open_file(folder, asked, lives(&ids, partitions)).await?;
        Ok(Self { database, partitions, clock, ids, news: News::of(partitions), newest: Newest::of(partitions) })
    }

    /// Opens the file for use in this boot of the machine. What was made in another one may have lost its end.
    async fn open_file(
        folder: &DataFolder,
        asked: Made,
        lives: Vec<(Partition, Incarnation)>,
    ) -> Result<Database, LogOpenError> {
        let mut database = Database::open(folder, LOG)?;
        if let Some(found) = database.read("open", file::made).await? {
            if found.partitions != asked.partitions {
                let file = Self::file_in(folder.path()).display().to_string();
                return Err(LogOpenError::Partitions { file, stored: found.partitions, asked: asked.partitions });
            }
            if found == asked {
                return Ok(database);
            }
            drop(database);
            Database::remove(folder, LOG)?;
            database = Database::open(folder, LOG)?;
        }
        info!(partitions = asked.partitions, "every partition of the log begins a new incarnation");
        database.write("open", move |connection| file::make(connection, &asked, &lives)).await?;
        Ok(database)
    }

    /// The dates of what is too young to be trimmed, if what was published before `before` is old (law Y3).
    fn young(&self, before: Timestamp) -> Range<Timestamp> {
        let now = self.clock.now();
        before..now.plus(before.until(now))
    }

    fn place_of(&self, operation: &'static str, partition: Partition) -> Result<usize, BackendError> {
        if (1..=self.partitions.partitions()).contains(&partition.get()) {
            Ok(usize::from(partition.get() - 1))
        } else {
            Err(BackendError::broken(operation, format!("the log has no partition {partition}")))
        }
    }
}

fn machine_start(ids: &Ids) -> String {
    match std::fs::read_to_string(MACHINE_START_FILE) {
        Ok(id) => id.trim().to_owned(),
        Err(_) => ids.commit().to_string(),
    }
}

/// A batch as records after an offset. The events are shared, not copied.
fn numbered(after: Offset, batch: &[FeedEntry]) -> Vec<Record> {
    let mut offset = after;
    let record = |entry: &FeedEntry| {
        offset = offset.next();
        Record { offset, recorded: entry.recorded.clone() }
    };
    batch.iter().map(record).collect()
}

fn lives(ids: &Ids, partitions: PartitionMap) -> Vec<(Partition, Incarnation)> {
    partitions.all().map(|partition| (partition, life(ids))).collect()
}

/// A random name that no partition has ever had.
fn life(ids: &Ids) -> Incarnation {
    Incarnation(ids.commit().to_string().into())
}

impl PartitionLog for EmbeddedLog {
    type Reader = EmbeddedReader;

    async fn extent(&self, partition: Partition) -> Result<Extent, BackendError> {
        self.place_of("extent", partition)?;
        self.database.read("extent", move |connection| file::extent(connection, partition)).await
    }

    async fn publish(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        let place = self.place_of("publish", partition)?;
        // However this call ends: a publish whose caller has gone away may still have happened.
        let _wakes = WakeOnDrop { news: &self.news, place };
        // Bodies are written here, to keep that work off the thread that writes the file.
        let (parts, records) = (Part::all_of(batch), numbered(after, batch));
        let (life, now) = (incarnation.clone(), self.clock.now());
        let (newest, incarnation) = (self.newest.clone(), incarnation.clone());
        let publish =
            move |connection: &_| file::publish(connection, partition, &life, after, &parts, now, RECORDS_MAX);
        let committed = move |fate: &Published| {
            if matches!(fate, Published::Behind(_)) {
                newest.push(place, &incarnation, records);
            }
        };
        match self.database.write_and_tell("publish", publish, committed).await? {
            Published::Behind(last) => Ok(last),
            Published::Conflict(extent) => Err(PublishError::Conflict(extent)),
            Published::Full => Err(PublishError::Full { after: FULL_WAIT }),
        }
    }

    async fn reader(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
    ) -> Result<EmbeddedReader, ReadError> {
        let place = self.place_of("reader", partition)?;
        let news = self.news.0[place].subscribe();
        let newest = (self.newest.clone(), place);
        EmbeddedReader::open(self.database.clone(), news, newest, partition, incarnation.clone(), after).await
    }

    async fn trim(&self, partition: Partition, through: Offset, before: Timestamp) -> Result<u64, BackendError> {
        let place = self.place_of("trim", partition)?;
        let mut forgotten = 0;
        loop {
            let young = self.young(before);
            let trim = move |connection: &_| file::trim(connection, partition, through, &young, TRIMMED_AT_ONCE);
            let newest = self.newest.clone();
            let committed = move |trimmed: &Trimmed| newest.trimmed(place, trimmed.through);
            let now = self.database.write_and_tell("trim", trim, committed).await?.records;
            forgotten += now;
            if now <= TRIMMED_FEW {
                return Ok(forgotten);
            }
        }
    }

    async fn renew(&self, partition: Partition, incarnation: &Incarnation) -> Result<Extent, BackendError> {
        let place = self.place_of("renew", partition)?;
        let _wakes = WakeOnDrop { news: &self.news, place };
        let (expected, next) = (incarnation.clone(), life(&self.ids));
        let renew = move |connection: &_| file::renew(connection, partition, &expected, &next);
        let newest = self.newest.clone();
        self.database.write_and_tell("renew", renew, move |_| newest.renewed(place)).await
    }
}

/// Wakes the readers of a partition. Each partition has its own channel, so that readers do not wake for others.
#[derive(Clone, Debug)]
struct News(Arc<[watch::Sender<()>]>);

impl News {
    fn of(partitions: PartitionMap) -> Self {
        Self(partitions.all().map(|_| watch::Sender::new(())).collect())
    }
}

/// Wakes the readers of a partition at the end of a call, however that ends.
struct WakeOnDrop<'a> {
    news: &'a News,
    place: usize,
}

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        self.news.0[self.place].send_replace(());
    }
}

#[cfg(test)]
mod tests;
