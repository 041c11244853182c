//! One SQLite file as an embedded backend uses it: one writer thread with group commit, readers on their own
//! connections.
//!
//! Q1  A write is answered after the transaction it rode in was committed, and so fsynced where [`Durability::Full`].
//! Q2  Writes that wait while a transaction is under way share the next one; nobody waits for a timer.
//! Q3  A write that fails in itself changes nothing and spoils no other write of its transaction; nor does upkeep.
//! Q4  A file that is damaged, foreign or from a newer release is refused with a message that says so; nothing in it
//!     is changed.
//! Q5  A read sees one committed state, and in it every write that was answered before the read began.
//! Q6  A data folder belongs to one process at a time, until that closes its files or dies; another one is refused.
//! Q7  While nobody stays in an old state, the write-ahead log of a file is bounded, and hardly any of the work for
//!     that is done while writes wait.
//!
//! How Q3 costs nothing on the good path: a transaction first runs its writes one behind the other, and the upkeep of
//! the file behind them. Only when one of them fails is it rolled back as a whole and run a second time, each write in
//! a savepoint of its own, without the upkeep. That is why a write is an `FnMut`: it may be called twice, and starts
//! each time from a state without its own traces.
//!
//! A file appears whole: it is made beside its place and renamed into it, so a crash leaves no half-made file, and what
//! stands in the place without our mark was put there by somebody else.

mod check;
mod failure;
mod folder;
mod mover;
mod open;
mod reader;
mod tail;
mod turn;
mod upkeep;
mod wal_check;
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
pub use tail::Tail;
use upkeep::NoUpkeep;
pub use upkeep::Upkeep;
use writer::Writer;

/// What a commit is good for when the machine loses power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every transaction is fsynced before its writes are answered.
    Full,
    /// The death of the process loses nothing; that of the machine may lose the last transactions, never their order.
    /// For what can be built again from the store.
    Normal,
}

/// What a file is and holds.
#[derive(Clone, Copy, Debug)]
pub struct FileSpec {
    /// Its name in the data folder.
    pub file_name: &'static str,
    /// The mark in the file's header (`application_id`) by which a file of ours is told from a foreign one; not zero.
    pub application_id: i32,
    /// The steps that made the schema, at least one: the nth leads from schema version n − 1 to n. Never changed once
    /// released, only added to; a file of an older release takes the steps it lacks when it is opened.
    pub schema: &'static [&'static str],
    /// What a commit is good for.
    pub durability: Durability,
}

/// An open file. Clones share it; when the last is dropped, what was written is moved from the write-ahead log into the
/// file, its threads end and the folder can be opened by another process. That drop blocks for as long.
#[derive(Clone)]
pub struct Database {
    // Dropped in this order: readers first, so that the writer's last checkpoint finds the file for itself (it ends the
    // mover before), the handle that is not SQLite's behind all that are, and the lock on the folder last.
    readers: Readers,
    writer: Arc<Writer>,
    _synced: Arc<File>,
    _folder: DataFolder,
}

impl Database {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// [`OpenError`] by law Q4; its text names the file and the way out.
    pub fn open(folder: &DataFolder, spec: FileSpec) -> Result<Self, OpenError> {
        Self::open_kept_up(folder, spec, |_| Ok(NoUpkeep))
    }

    /// The same for a file with [`Upkeep`], which is made from what the file holds before anybody writes to it.
    ///
    /// # Errors
    /// [`OpenError`] as for [`Database::open`], also when the upkeep cannot be made.
    pub fn open_kept_up<U: Upkeep>(
        folder: &DataFolder,
        spec: FileSpec,
        upkeep: impl FnOnce(&Connection) -> rusqlite::Result<U>,
    ) -> Result<Self, OpenError> {
        Self::open_bounded(folder, spec, BOUNDS, upkeep)
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
        let connection = open::open(&file, &spec, bounds)?;
        let upkeep = upkeep(&connection).map_err(told)?;
        let synced = mover::synced(&file).map_err(failed)?;
        let beside = open::open_mover(&file, &spec).map_err(told)?;
        let mover = Mover::start(beside, Arc::clone(&synced), spec.file_name, bounds).map_err(failed)?;
        let writer = Arc::new(Writer::start(connection, mover, spec.file_name, upkeep).map_err(failed)?);
        Ok(Self { readers: Readers::of(file), writer, _synced: synced, _folder: folder.clone() })
    }

    /// Runs a write in the next transaction and answers when that is committed (laws Q1 to Q3).
    ///
    /// The closure may be called twice, and blocks every other write meanwhile. An `Err` undoes all it did. A refusal
    /// that is no failure belongs into `T`: what such a closure wrote before is kept.
    ///
    /// Dropping the future before it is done does not take the write back.
    ///
    /// # Errors
    /// With an unknown effect when the transaction's commit failed; with no effect for any other failure.
    pub async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        self.writer.write(operation, run, |_| {}).await
    }

    /// The same, and when the transaction is committed, `committed` is called with the outcome: one write after the
    /// other in the order in which they were run, also if nobody waits for the answer any more. It must be short.
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

    /// Begins a read on a connection of its own (law Q5), to be waited for later. When the [`Reading`] is dropped, a
    /// read that has not begun never begins, and one that has is told by its [`Wanted`]. Needs a tokio runtime.
    pub fn begin_read<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&Connection, &Wanted) -> rusqlite::Result<T> + Send + 'static,
    ) -> Reading<T> {
        Reading::begin(&self.readers, operation, run)
    }

    /// Whether the file still takes writes, so that it is noticed without one when it does not.
    ///
    /// # Errors
    /// When the writer thread has ended, which only a mistake in it brings about; then only a new process helps.
    pub fn check_writer(&self, operation: &'static str) -> Result<(), BackendError> {
        if self.writer.is_alive() { Ok(()) } else { Err(writer::ended(operation)) }
    }

    /// How many transactions were committed since the file was opened; changes after each of them, so that a feed can
    /// wait for news. Closed when the writer thread has ended.
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
