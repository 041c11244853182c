//! Reads, each on a connection of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rusqlite::{Connection, Error, ffi};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::failure::not_done;
use super::open::open_reader;
use super::sync_failure::SyncFailure;
use crate::error::BackendError;

/// How many reads run at once. More would only wait for the same disk, and each costs a connection and a thread.
const READERS_MAX: usize = 8;

/// Connections that read, opened on demand and kept for the next read.
#[derive(Clone)]
pub(super) struct Readers(Arc<Pool>);

struct Pool {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
    sync_failure: SyncFailure,
}

impl Readers {
    pub(super) fn of(file: PathBuf, sync_failure: SyncFailure) -> Self {
        let turns = Arc::new(Semaphore::new(READERS_MAX));
        Self(Arc::new(Pool { file, idle: Mutex::default(), turns, sync_failure }))
    }

    pub(super) fn file(&self) -> &Path {
        &self.0.file
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        let turn = Arc::clone(&self.0.turns).acquire_owned().await.expect("the semaphore is never closed");
        let pool = Arc::clone(&self.0);
        // The turn goes with the read: a read whose caller is gone still runs, and still counts.
        let read = move || {
            let _turn = turn;
            pool.read(run)
        };
        match tokio::task::spawn_blocking(read).await {
            // Asked behind the read: what it found may have been an old page.
            Ok(read) => {
                self.0.sync_failure.check(operation).and_then(|()| read.map_err(|error| not_done(operation, error)))
            }
            Err(panicked) => Err(BackendError::broken(operation, panicked)),
        }
    }
}

/// A read that was begun, to be awaited when its answer is needed.
#[derive(Debug)]
pub struct Reading<T> {
    operation: &'static str,
    task: AbortOnDropHandle<Result<T, BackendError>>,
    _wanted: Arc<()>,
}

impl<T: Send + 'static> Reading<T> {
    /// Begins the read, which does not keep the file open.
    pub(super) fn begin(
        readers: &Readers,
        operation: &'static str,
        run: impl FnOnce(&Connection, &Wanted) -> rusqlite::Result<T> + Send + 'static,
    ) -> Self {
        let readers = readers.clone();
        let is_there = Arc::new(());
        let wanted = Wanted(Arc::downgrade(&is_there));
        let read = async move { readers.read(operation, move |connection| run(connection, &wanted)).await };
        #[expect(clippy::disallowed_methods, reason = "it ends with its owner, who is told if it dies")]
        let task = AbortOnDropHandle::new(tokio::spawn(read));
        Self { operation, task, _wanted: is_there }
    }

    /// Waits for the answer, which is given once. Cancel-safe: a dropped wait leaves the answer for the next one.
    ///
    /// # Errors
    /// Always with no effect.
    pub async fn done(&mut self) -> Result<T, BackendError> {
        match (&mut self.task).await {
            Ok(read) => read,
            Err(ended) => Err(BackendError::broken(self.operation, ended)),
        }
    }
}

/// Whether somebody still waits for a [`Reading`], or may yet do so.
#[derive(Debug)]
pub struct Wanted(Weak<()>);

impl Wanted {
    /// For a long read to call now and then: the file is not closed before the read is over.
    ///
    /// # Errors
    /// When nobody can wait for the read any more.
    pub fn check(&self) -> rusqlite::Result<()> {
        if self.0.strong_count() > 0 {
            return Ok(());
        }
        let reason = "nobody waits for the read any more".to_owned();
        Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), Some(reason)))
    }
}

impl Pool {
    fn read<T>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.file)?,
        };
        // One state for all statements of the read. A connection whose read fails or panics is not kept.
        connection.prepare_cached("BEGIN")?.execute([])?;
        let read = run(&connection)?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(read)
    }
}
