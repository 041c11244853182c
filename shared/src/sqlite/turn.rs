//! One transaction of the writer thread: its writes, and the upkeep after them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{Connection, Error};
use tokio::sync::oneshot;
use tracing::error;

use super::failure::{is_torn, not_done, retry};
use super::upkeep::Upkeep;
use crate::error::{BackendError, Retry};

/// A write that waits for its turn, whatever its type of answer.
pub(super) trait Waiting: Send {
    /// Runs it, keeps the outcome, and returns whether it succeeded.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers the caller, which may be gone.
    fn answer(self: Box<Self>, ending: &Ending);
}

/// How a transaction ended for all of its writes.
pub(super) enum Ending {
    /// It is as durable as its file is meant to be; a write that failed is not in it.
    Committed,
    /// Nothing of it is left.
    NotDone { reason: String, retry: Retry },
    /// It was not begun, and none will be before the file is opened again.
    Refused(String),
    /// It may be there when the file is opened again.
    Unknown(Error),
}

impl Ending {
    pub(super) fn not_done(error: &Error) -> Self {
        Self::NotDone { reason: error.to_string(), retry: retry(error) }
    }

    pub(super) const fn is_committed(&self) -> bool {
        matches!(self, Self::Committed)
    }
}

/// What became of a transaction.
pub(super) struct EndOfTurn {
    pub(super) ending: Ending,
    /// Whether the upkeep ran in it and is committed.
    pub(super) is_kept_up: bool,
}

/// Runs the writes in one transaction, and the upkeep after them.
pub(super) fn take_turn(
    connection: &Connection,
    writes: &mut [Box<dyn Waiting>],
    upkeep: &mut impl Upkeep,
) -> EndOfTurn {
    run(connection, writes, upkeep).map_or_else(
        |error| {
            roll_back(connection);
            EndOfTurn { ending: Ending::not_done(&error), is_kept_up: false }
        },
        |is_run| {
            let ending = commit(connection);
            EndOfTurn { is_kept_up: is_run && ending.is_committed(), ending }
        },
    )
}

/// Returns whether the upkeep ran too. An error means that the transaction must not be committed.
fn run(connection: &Connection, writes: &mut [Box<dyn Waiting>], upkeep: &mut impl Upkeep) -> rusqlite::Result<bool> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let is_whole = writes.iter_mut().all(|write| write.run(connection)) && keep_up(connection, upkeep);
    if !is_whole {
        roll_back(connection);
        execute(connection, "BEGIN IMMEDIATE")?;
        run_apart(connection, writes)?;
    }
    Ok(is_whole)
}

fn keep_up(connection: &Connection, upkeep: &mut impl Upkeep) -> bool {
    // A panic is a failure like any other: what it wrote is rolled back.
    match catch_unwind(AssertUnwindSafe(|| upkeep.within_turn(connection))) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            error!(%error, "upkeep failed, trying again");
            false
        }
        Err(panic) => {
            error!(reason = words(&*panic), "upkeep panicked, trying again");
            false
        }
    }
}

fn commit(connection: &Connection) -> Ending {
    if connection.is_autocommit() {
        return Ending::NotDone { reason: "SQLite rolled the transaction back".to_owned(), retry: Retry::Later };
    }
    match execute(connection, "COMMIT") {
        Ok(()) => Ending::Committed,
        Err(error) => {
            roll_back(connection);
            // Unless it is torn, all of it may have reached the disk before it failed, so undoing it proves nothing.
            if is_torn(&error) { Ending::not_done(&error) } else { Ending::Unknown(error) }
        }
    }
}

/// Runs a statement that stays prepared.
fn execute(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(|_| ())
}

fn run_apart(connection: &Connection, writes: &mut [Box<dyn Waiting>]) -> rusqlite::Result<()> {
    for write in writes {
        connection.execute_batch("SAVEPOINT one_write")?;
        if !write.run(connection) {
            if connection.is_autocommit() {
                // The error has undone all of the transaction, and there is no savepoint left.
                return Ok(());
            }
            connection.execute_batch("ROLLBACK TO one_write")?;
        }
        connection.execute_batch("RELEASE one_write")?;
    }
    Ok(())
}

pub(super) fn roll_back(connection: &Connection) {
    // Some errors make SQLite roll back by itself.
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        error!(%error, "rollback failed");
    }
}

/// A write with a certain type of answer, and the channel back to its caller.
pub(super) struct Pending<T, F, C> {
    operation: &'static str,
    run: F,
    committed: C,
    outcome: Result<T, BackendError>,
    answer: oneshot::Sender<Result<T, BackendError>>,
}

impl<T, F, C> Pending<T, F, C> {
    pub(super) fn new(
        operation: &'static str,
        run: F,
        committed: C,
        answer: oneshot::Sender<Result<T, BackendError>>,
    ) -> Self {
        Self { operation, run, committed, outcome: Err(BackendError::not_done(operation, "it was not run")), answer }
    }
}

impl<T, F, C> Waiting for Pending<T, F, C>
where
    T: Send,
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
    C: FnOnce(&T) + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        // A panic is a failure of this write alone: its changes to the file are undone like those of an error.
        self.outcome = match catch_unwind(AssertUnwindSafe(|| (self.run)(connection))) {
            Ok(ran) => ran.map_err(|error| not_done(self.operation, error)),
            Err(panic) => {
                let reason = words(&*panic);
                error!(operation = self.operation, reason, "write panicked");
                Err(BackendError::broken(self.operation, format!("it panicked: {reason}")))
            }
        };
        self.outcome.is_ok()
    }

    fn answer(self: Box<Self>, ending: &Ending) {
        let answer = match ending {
            Ending::Committed => self.outcome.inspect(self.committed),
            Ending::NotDone { reason, retry } => {
                Err(BackendError { retry: *retry, ..BackendError::not_done(self.operation, reason.clone()) })
            }
            Ending::Refused(reason) => Err(BackendError::broken(self.operation, reason.clone())),
            Ending::Unknown(error) => {
                Err(BackendError { retry: retry(error), ..BackendError::unknown(self.operation, error.to_string()) })
            }
        };
        drop(self.answer.send(answer));
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}
