//! The writer thread: collects waiting writes into transactions.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::failure::retry;
use super::leftover::Leftover;
use super::mover::Mover;
use super::open::{begin_log_anew, leave_log_on_close};
use super::sync_failure::SyncFailure;
use super::turn::{EndOfTurn, Ending, Pending, Waiting, take_turn};
use super::upkeep::Upkeep;
use super::write_failure::WriteFailure;
use crate::error::BackendError;

/// How many writes share a transaction at most: enough to make the fsync a small part of its cost, few enough to keep
/// the first of them from waiting long for the last.
const WRITES_PER_TRANSACTION_MAX: usize = 512;
/// How many writes are queued before callers have to wait: two more turns.
const WRITES_WAITING_MAX: usize = 1_024;

/// Decides before each transaction of the writer whether it may begin.
pub(super) struct Gate {
    sync_failure: SyncFailure,
    write_failure: WriteFailure,
    leftover: Leftover,
}

impl Gate {
    pub(super) fn new(sync_failure: SyncFailure, write_failure: WriteFailure, leftover: Leftover) -> Self {
        Self { sync_failure, write_failure, leftover }
    }

    /// Makes sure that it may begin; an error is how a turn ends that may not.
    fn pass(&mut self, connection: &Connection) -> Result<(), Ending> {
        if let Some(advice) = self.sync_failure.advice() {
            return Err(Ending::Refused(advice.to_owned()));
        }
        self.leftover.remove(connection).map_err(|error| {
            self.sync_failure.note_if_sync(&error);
            let reason = format!("the write-ahead log cannot be emptied, which must precede the next write: {error}");
            Ending::NotDone { reason, retry: retry(&error) }
        })
    }

    /// Learns from how a transaction ended.
    fn note(&mut self, ending: &Ending) {
        if let Ending::Unknown(error) = ending {
            self.sync_failure.note_if_sync(error);
        }
        self.write_failure.note(ending);
        self.leftover.note(ending);
    }
}

/// The thread that writes to a file, and the queue to it. When this is dropped, it ends after all queued writes.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Waiting>>>,
    commits: watch::Receiver<u64>,
    sync_failure: SyncFailure,
    write_failure: WriteFailure,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        mut mover: Mover,
        mut gate: Gate,
        file_name: &'static str,
        mut upkeep: impl Upkeep,
    ) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(WRITES_WAITING_MAX);
        let (news, commits) = watch::channel(0);
        let (sync_failure, write_failure) = (gate.sync_failure.clone(), gate.write_failure.clone());
        let thread = Builder::new().name(format!("write {file_name}")).spawn(move || {
            write_all(&connection, waiting, &news, &mut mover, &mut gate, &mut upkeep);
            close(connection, mover, gate, file_name, &mut upkeep);
        })?;
        Ok(Self { queue: Some(queue), commits, sync_failure, write_failure, thread: Some(thread) })
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, BackendError> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().expect("the queue is only taken away by drop");
        if queue.send(Box::new(Pending::new(operation, run, committed, answer))).await.is_err() {
            return Err(ended(operation));
        }
        answered.await.unwrap_or_else(|_| Err(BackendError::unknown(operation, "the writer thread ended meanwhile")))
    }

    /// Syncs the WAL at this path, with all that was committed before this call.
    pub(super) async fn sync(&self, operation: &'static str, log: PathBuf) -> Result<(), BackendError> {
        let failure = self.sync_failure.clone();
        let sync = move || {
            let log = File::options().write(true).open(log)?;
            log.sync_data().inspect_err(|error| failure.note(error))
        };
        match spawn_blocking(sync).await {
            // The system reports a failure only once: this sync may have succeeded after another one that did not.
            Ok(synced) => synced.map_err(|error| BackendError::unknown(operation, error))?,
            Err(panicked) => return Err(BackendError::unknown(operation, panicked)),
        }
        self.sync_failure.check(operation).map_err(|known| BackendError::unknown(operation, known))
    }

    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Whether writes are taken: until the writer is dropped, unless a bug has ended its thread, or a sync failed, or
    /// the last write did and another one does too.
    pub(super) async fn check(&self, operation: &'static str) -> Result<(), BackendError> {
        if self.queue.as_ref().is_none_or(mpsc::Sender::is_closed) {
            return Err(ended(operation));
        }
        self.sync_failure.check(operation)?;
        if self.write_failure.is_known() { self.write(operation, |_| Ok(()), |()| ()).await } else { Ok(()) }
    }
}

/// The failure of a call that needs the writer when its thread has ended: only a new process helps.
fn ended(operation: &'static str) -> BackendError {
    BackendError::broken(operation, "the writer thread has ended")
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("a writer thread panicked");
        }
    }
}

fn write_all(
    connection: &Connection,
    mut queue: mpsc::Receiver<Box<dyn Waiting>>,
    news: &watch::Sender<u64>,
    mover: &mut Mover,
    gate: &mut Gate,
    upkeep: &mut impl Upkeep,
) {
    let mut turn = Vec::with_capacity(WRITES_PER_TRANSACTION_MAX);
    while queue.blocking_recv_many(&mut turn, WRITES_PER_TRANSACTION_MAX) > 0 {
        if let Err(refusal) = gate.pass(connection) {
            gate.write_failure.note(&refusal);
            answer(&mut turn, &refusal);
            continue;
        }
        if gate.write_failure.is_known() {
            // It would be taken for over by a transaction that changes nothing.
            turn.push(probe());
        }
        let EndOfTurn { ending, is_kept_up } = take_turn(connection, &mut turn, upkeep);
        answer(&mut turn, &ending);
        gate.note(&ending);
        if ending.is_committed() {
            news.send_modify(|commits| *commits += 1);
        }
        upkeep.after_turn(is_kept_up);
        if !is_kept_up && gate.pass(connection).is_ok() {
            // A turn of its own, so that writes that fail again and again do not keep the file from its upkeep.
            let alone = take_turn(connection, &mut [], upkeep);
            if !alone.ending.is_committed() {
                gate.note(&alone.ending);
            }
            upkeep.after_turn(alone.is_kept_up);
        }
        mover.after_turn(connection);
    }
}

/// A write that changes a page, and nothing that anybody reads.
fn probe() -> Box<dyn Waiting> {
    let run = |connection: &Connection| {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        connection.pragma_update(None, "user_version", version)
    };
    Box::new(Pending::new("probe", run, |(): &()| (), oneshot::channel().0))
}

fn answer(turn: &mut Vec<Box<dyn Waiting>>, ending: &Ending) {
    for write in turn.drain(..) {
        write.answer(ending);
    }
}

/// Leaves one plain file without a write-ahead log; after a failed sync, what the next process needs to restore it.
fn close(connection: Connection, mover: Mover, mut gate: Gate, file_name: &str, upkeep: &mut impl Upkeep) {
    let passed = gate.pass(&connection);
    let failure = gate.sync_failure;
    match passed.map(|()| upkeep.before_close(&connection)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            failure.note_if_sync(&error);
            warn!(file = file_name, %error, "upkeep not finished, the next start will");
        }
        Err(refusal) => gate.write_failure.note(&refusal),
    }
    // Two connections cannot move pages at once. And its last sync may fail.
    drop(mover);
    if let Some(advice) = failure.advice() {
        error!(file = file_name, advice, "the write-ahead log remains");
        return;
    }
    let emptied = begin_log_anew(&connection).and_then(|()| leave_log_on_close(&connection, false));
    let closed = connection.close().map_err(|(_, error)| error);
    if let Err(error) = emptied.and(closed) {
        warn!(file = file_name, %error, "cannot close the file cleanly, its write-ahead log remains");
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::{NOTES, note, notes, opened};
    use super::super::{DataFolder, Database};
    use super::*;

    /// Leaves a note in each turn. It panics during the first, and after the third, which is committed.
    struct Careless {
        turns: u32,
    }

    impl Upkeep for Careless {
        fn within_turn(&mut self, connection: &Connection) -> rusqlite::Result<()> {
            self.turns += 1;
            connection.execute("INSERT INTO note (text) VALUES (?1)", [format!("turn {}", self.turns)])?;
            assert_ne!(self.turns, 1, "a mistake within the turn");
            Ok(())
        }

        fn after_turn(&mut self, is_kept: bool) {
            assert!(!is_kept || self.turns < 3, "a mistake behind the turn");
        }

        fn before_close(&mut self, _: &Connection) -> rusqlite::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn upkeep_that_panics_in_a_turn_is_done_again_and_a_writer_that_died_is_noticed() {
        let dir = TempDir::new().unwrap();
        let folder = DataFolder::open(dir.path()).unwrap();
        let database = Database::open_kept_up(&folder, NOTES, |_| Ok(Careless { turns: 0 })).unwrap();
        drop(folder);
        let mut commits = database.commits();
        note(&database, "a").await.unwrap();
        database.check_writer("test").await.unwrap();
        note(&database, "b").await.unwrap();
        // The turn of the second note was answered before its upkeep was called.
        while commits.changed().await.is_ok() {}
        assert!(database.check_writer("test").await.unwrap_err().to_string().contains("has ended"));
        note(&database, "c").await.unwrap_err();
        assert_eq!(notes(&database).await, ["a", "b", "turn 2", "turn 3"]);
        drop(database);
        assert_eq!(notes(&opened(&dir)).await, ["a", "b", "turn 2", "turn 3"]);
    }
}
