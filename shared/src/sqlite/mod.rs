//! One SQLite file as an embedded backend uses it: one writer thread with group commit, readers on their own
//! connections.
//!
//! Q1  A write is answered only after its transaction is committed, and with [`Durability::Full`] fsynced.
//! Q2  Writes that wait while a transaction is under way share the next one; none waits for a timer.
//! Q3  A write that fails changes nothing and affects no other write of its transaction; the same holds for upkeep.
//! Q4  A file that is damaged, foreign or from a newer release is refused with a message that says so; nothing in it
//!     is changed.
//! Q5  A read sees a single committed state, which includes every write answered before the read began.
//! Q6  A data folder belongs to one process at a time, until that closes its files or dies; others are refused.
//! Q7  Unless a reader stays in an old state, the write-ahead log (WAL) of a file is bounded, and writes hardly ever
//!     wait for the work this takes.
//! Q8  Once the disk has failed to sync a file or its WAL, the file takes no write and answers no read until it is
//!     opened again, which restores what its [`Durability`] promises.
//!
//! Why Q3 costs nothing on the happy path: a transaction first runs its writes one after another, then the upkeep of
//! the file. Only if one of them fails is it rolled back as a whole and run a second time, each write in its own
//! savepoint, without the upkeep. That is why a write is an `FnMut`: it may be called twice, each time on a state
//! without its own effects.
//!
//! A file appears whole: it is created under another name and then renamed, so a crash leaves no half-made file, and a
//! file in its place without our mark was put there by somebody else.

mod check;
mod failure;
mod folder;
mod leftover;
mod mover;
mod open;
mod reader;
mod sync_failure;
mod tail;
mod turn;
mod upkeep;
mod wal_check;
mod write_failure;
mod writer;

use std::fs::File;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::watch;

use crate::error::BackendError;
pub use folder::{DataFolder, OpenError};
use mover::{BOUNDS, Bounds, Mover};
use reader::Readers;
pub use reader::{Reading, Wanted};
use sync_failure::SyncFailure;
pub use tail::Tail;
use upkeep::NoUpkeep;
pub use upkeep::Upkeep;
use write_failure::WriteFailure;
use writer::{Gate, Writer};

/// What a commit guarantees when the machine loses power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every transaction is fsynced before its writes are answered.
    Full,
    /// The death of the process loses nothing; that of the machine may lose the last transactions, but never their
    /// order. For data that can be rebuilt from the store.
    Normal,
}

/// What a file is and holds.
#[derive(Clone, Copy, Debug)]
pub struct FileSpec {
    /// Its name in the data folder.
    pub file_name: &'static str,
    /// The mark in the file's header (`application_id`) that tells our files from foreign ones; not zero.
    pub application_id: i32,
    /// The steps that build the schema, at least one: the nth leads from schema version n − 1 to n. Once released they
    /// are never changed, only added to; a file of an older release gets the missing steps when it is opened.
    pub schema: &'static [&'static str],
    /// What a commit guarantees.
    pub durability: Durability,
}

/// An open file. Clones share it; dropping the last one moves the rest of the WAL into the file, ends the threads and
/// lets another process open the folder. That drop blocks until all of this is done. After a sync that failed, the
/// WAL is left to whoever opens the file next (law Q8).
#[derive(Clone)]
pub struct Database {
    // Dropped in this order: readers first, so that the writer's last checkpoint has the file to itself (it ends the
    // mover before), then the handle that is not SQLite's, after all that are, and the folder's lock last.
    readers: Readers,
    writer: Arc<Writer>,
    _synced: Arc<File>,
    _folder: DataFolder,
}

impl Database {
    /// Opens a file, or creates it.
    ///
    /// # Errors
    /// [`OpenError`] by law Q4; its text names the file and what to do.
    pub fn open(folder: &DataFolder, spec: FileSpec) -> Result<Self, OpenError> {
        Self::open_kept_up(folder, spec, |_| Ok(NoUpkeep))
    }

    /// The same for a file with [`Upkeep`], which is created from the file's content before anybody writes to it.
    ///
    /// # Errors
    /// [`OpenError`] as for [`Database::open`], or when the upkeep cannot be created.
    pub fn open_kept_up<U: Upkeep>(
        folder: &DataFolder,
        spec: FileSpec,
        upkeep: impl FnOnce(&Connection) -> rusqlite::Result<U>,
    ) -> Result<Self, OpenError> {
        Self::open_bounded(folder, spec, BOUNDS, upkeep)
    }

    /// Removes a file that is not open; nothing happens if there is none. The next one is made in its place.
    ///
    /// # Errors
    /// [`OpenError::Folder`] when it cannot be removed.
    pub fn remove(folder: &DataFolder, spec: FileSpec) -> Result<(), OpenError> {
        let file = folder.path().join(spec.file_name);
        open::remove(&file).map_err(|reason| OpenError::Folder { path: file, reason })
    }

    fn open_bounded<U: Upkeep>(
        folder: &DataFolder,
        spec: FileSpec,
        bounds: Bounds,
        upkeep: impl FnOnce(&Connection) -> rusqlite::Result<U>,
    ) -> Result<Self, OpenError> {
        let file = folder.path().join(spec.file_name);
        let told = |error| failure::of_opening(file.clone(), error);
        let failed = |reason| OpenError::Folder { path: file.clone(), reason };
        let (connection, leftover) = open::open(&file, &spec, bounds)?;
        let upkeep = upkeep(&connection).map_err(told)?;
        let synced = mover::synced(&file).map_err(failed)?;
        let beside = open::open_mover(&file, &spec).map_err(told)?;
        let failure = SyncFailure::none(spec.file_name);
        let mover =
            Mover::start(beside, Arc::clone(&synced), failure.clone(), spec.file_name, bounds).map_err(failed)?;
        let gate = Gate::new(failure.clone(), WriteFailure::none(spec.file_name), leftover);
        let writer = Writer::start(connection, mover, gate, spec.file_name, upkeep).map_err(failed)?;
        let (readers, writer) = (Readers::of(file, failure), Arc::new(writer));
        Ok(Self { readers, writer, _synced: synced, _folder: folder.clone() })
    }

    /// Runs a write in the next transaction and returns once that is committed (laws Q1 to Q3).
    ///
    /// The closure may be called twice, and blocks every other write while it runs. An `Err` undoes all it did. A
    /// refusal that is not a failure belongs in `T`: what the closure wrote before it is kept.
    ///
    /// Dropping the future before it is done does not undo the write.
    ///
    /// # Errors
    /// With an unknown effect when the transaction's commit failed, unless its last page could not be written; with no
    /// effect for any other failure.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        self.writer.write(operation, run, |_| {}).await
    }

    /// The same, and once the transaction is committed, `committed` is called with the outcome: for one write after
    /// another in the order in which they ran, even if nobody waits for the answer any more. It must be short.
    ///
    /// # Errors
    /// As for [`Database::write`].
    pub async fn write_and_tell<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, BackendError> {
        self.writer.write(operation, run, committed).await
    }

    /// Has all that was committed before this call survive a loss of power, whatever the file's [`Durability`]: it is
    /// in the WAL, which is synced here, or in the file, which was synced before the WAL restarted.
    ///
    /// # Errors
    /// With an unknown effect: it may be lost with the machine. A sync that failed is final (law Q8).
    pub async fn sync(&self, operation: &'static str) -> Result<(), BackendError> {
        self.writer.sync(operation, check::beside(self.readers.file(), "-wal")).await
    }

    /// Runs a read on a connection of its own (law Q5).
    ///
    /// # Errors
    /// Always with no effect.
    pub async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        self.readers.read(operation, run).await
    }

    /// Begins a read on a connection of its own (law Q5), to be awaited later. If the [`Reading`] is dropped, a read
    /// that has not begun never begins, and one that has learns it from its [`Wanted`]. Needs a tokio runtime.
    pub fn begin_read<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&Connection, &Wanted) -> rusqlite::Result<T> + Send + 'static,
    ) -> Reading<T> {
        Reading::begin(&self.readers, operation, run)
    }

    /// Whether the file takes writes. Tried out if the last one failed, else answered without writing.
    ///
    /// # Errors
    /// When the writer thread has ended, which only a bug in it can cause, or the disk has failed to sync the file (law
    /// Q8): then only a new process helps. When nothing can be written, for example because the disk is full.
    pub async fn check_writer(&self, operation: &'static str) -> Result<(), BackendError> {
        self.writer.check(operation).await
    }

    /// How many transactions were committed since the file was opened; changes with each of them, so that a feed can
    /// wait for new writes. Closed once the writer thread has ended.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.writer.commits()
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.readers.file()).finish()
    }
}

#[cfg(test)]
mod tests;
