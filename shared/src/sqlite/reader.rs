use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::failure::not_done;
use super::open::open_reader;
use crate::error::BackendError;

/// How many reads run at once. More would only wait for the same disk, and each costs a connection and a thread.
const READERS_MAX: usize = 8;

/// Connections that read, made when they are needed and kept for the next read.
#[derive(Clone)]
pub(super) struct Readers(Arc<Pool>);

struct Pool {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn of(file: PathBuf) -> Self {
        Self(Arc::new(Pool { file, idle: Mutex::default(), turns: Arc::new(Semaphore::new(READERS_MAX)) }))
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
        // The turn goes along: a read whose caller has gone still runs, and still counts.
        let read = move || {
            let _turn = turn;
            pool.read(run)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read.map_err(|error| not_done(operation, error)),
            Err(panicked) => Err(BackendError::broken(operation, panicked)),
        }
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
