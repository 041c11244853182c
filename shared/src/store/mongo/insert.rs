//! Inserts what was judged: one command for a batch.
//!
//! The command is ordered: it ends at the first document that collides, and the documents before it are written. So a
//! prefix of the commits to each stream is written (law S2), and a commit of one document is written or not (law S1).
//! If a commit has several documents, the whole batch goes into a transaction, which takes one more round trip.
//!
//! The command is sent once. The driver could retry it after a lost answer, but then the server would keep a record of
//! each batch; that is not needed, since appending the same commits again tells what became of them (law S4).

use mongodb::ClientSession;
use mongodb::bson::{Document, RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::MongoStore;
use super::abandoned::unhindered;
use super::append::APPEND;
use super::document::documents;
use super::failure::{is_lost_race, is_race, is_refusal, of_write, without_effect};
use super::schema::EVENTS;
use crate::error::{BackendError, Effect};
use crate::store::Commit;

/// How many bytes of documents one command carries, far below the 16 MiB that a server takes. A batch of the account
/// service has less than 1 MiB.
const COMMAND_BYTES_MAX: usize = 8 << 20;

/// How often the commit of a transaction is requested; the driver retries each request once.
const COMMIT_TRIES_MAX: u32 = 3;

/// Why not all commits were written. Those before index `before` were, whatever became of the others.
pub(super) enum Failed {
    /// The one at `before` collided with another writer, and nothing after it was tried.
    Race { before: usize, failure: BackendError },
    /// Anything else; the failure says whether any of those from `before` on may have been written.
    Backend { before: usize, failure: BackendError },
}

impl Failed {
    const fn nothing_but(failure: BackendError) -> Self {
        Self::Backend { before: 0, failure }
    }

    /// The same for a part that follows `written` commits already written.
    fn behind(self, written: usize) -> Self {
        match self {
            Self::Race { before, failure } => Self::Race { before: written + before, failure },
            Self::Backend { before, failure } => Self::Backend { before: written + before, failure },
        }
    }

    /// The same in a transaction, which is then not committed.
    fn undone(self) -> Self {
        let no_effect = |failure| BackendError { effect: Effect::None, ..failure };
        match self {
            Self::Race { failure, .. } => Self::Race { before: 0, failure: no_effect(failure) },
            Self::Backend { failure, .. } => Self::nothing_but(no_effect(failure)),
        }
    }
}

/// Writes the commits in order, durably.
pub(super) async fn insert(store: &MongoStore, commits: &[&Commit], deadline: Instant) -> Result<(), Failed> {
    let mut writes = Vec::with_capacity(commits.len());
    for commit in commits {
        let documents = documents(commit).map_err(|error| Failed::nothing_but(BackendError::broken(APPEND, error)))?;
        writes.extend(documents);
    }
    if writes.is_empty() {
        Ok(())
    } else if writes.len() == commits.len() {
        Box::pin(insert_alone(store, &writes, deadline)).await
    } else {
        Box::pin(insert_together(store, &writes, deadline)).await
    }
}

/// Inserts commits of one document each. The server makes them wait for a transaction that holds one of their places.
async fn insert_alone(store: &MongoStore, writes: &[RawDocumentBuf], deadline: Instant) -> Result<(), Failed> {
    let mut before = 0;
    for part in parts(writes) {
        let mut command = command(part);
        command.append(cstr!("writeConcern"), rawdoc! { "w": "majority", "j": true });
        // So that the server ends the command too once nobody waits for it any more.
        let left = deadline.saturating_duration_since(Instant::now());
        command.append(cstr!("maxTimeMS"), i64::try_from(left.as_millis()).unwrap_or(i64::MAX).max(1));
        let inserting = store.database.run_raw_command(command).into_future();
        let inserting = unhindered(&store.client, &store.application, inserting);
        let inserted = match timeout_at(deadline, Box::pin(inserting)).await {
            Ok(Ok(answer)) => understand(&answer),
            Ok(Err(error)) => Err(Failed::nothing_but(of_write(APPEND, error))),
            Err(late) => Err(Failed::nothing_but(BackendError::unknown(APPEND, late))),
        };
        inserted.map_err(|failed| failed.behind(before))?;
        before += part.len();
    }
    Ok(())
}

/// Inserts commits of which at least one has several documents: all or none.
async fn insert_together(store: &MongoStore, writes: &[RawDocumentBuf], deadline: Instant) -> Result<(), Failed> {
    let mut session = within(deadline, async { store.client.start_session().causal_consistency(false).await }).await?;
    if let Err(failed) = insert_in(store, &mut session, writes, deadline).await {
        // Only to free its locks early: a transaction that nobody commits has no effect.
        if let Ok(Err(error)) = timeout_at(deadline, session.abort_transaction()).await {
            debug!(%error, "cannot abort a transaction, the server will");
        }
        return Err(failed);
    }
    Box::pin(commit(&mut session, deadline)).await
}

async fn insert_in(
    store: &MongoStore,
    session: &mut ClientSession,
    writes: &[RawDocumentBuf],
    deadline: Instant,
) -> Result<(), Failed> {
    within(deadline, async { session.start_transaction().await }).await?;
    for part in parts(writes) {
        let inserting = store.database.run_raw_command(command(part)).session(&mut *session);
        let answer = within(deadline, inserting.into_future()).await?;
        understand(&answer).map_err(Failed::undone)?;
    }
    Ok(())
}

/// Splits the documents into parts, each small enough for one command.
fn parts(writes: &[RawDocumentBuf]) -> impl Iterator<Item = &[RawDocumentBuf]> {
    let mut bytes = 0;
    writes.chunk_by(move |document, next| {
        bytes += document.as_bytes().len();
        let fits = bytes + next.as_bytes().len() <= COMMAND_BYTES_MAX;
        if !fits {
            bytes = 0;
        }
        fits
    })
}

fn command(writes: &[RawDocumentBuf]) -> RawDocumentBuf {
    let mut documents = RawArrayBuf::new();
    for write in writes {
        documents.push(write);
    }
    let mut command = rawdoc! { "insert": EVENTS, "ordered": true };
    command.append(cstr!("documents"), documents);
    command
}

/// Reads the answer to an ordered insert. It names the first document that was not inserted; those before it count as
/// written only if a majority has them, since they may be lost again otherwise.
fn understand(answer: &Document) -> Result<(), Failed> {
    if let Ok(doubt) = answer.get_document("writeConcernError") {
        return Err(Failed::nothing_but(BackendError::unknown(APPEND, doubt.to_string())));
    }
    let errors = answer.get_array("writeErrors");
    let Some(refused) = errors.ok().and_then(|errors| errors.first()?.as_document()) else { return Ok(()) };
    let (reason, code) = (refused.to_string(), refused.get_i32("code").unwrap_or_default());
    let before = refused.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
    Err(match before {
        Some(before) if is_race(code) => Failed::Race { before, failure: BackendError::not_done(APPEND, reason) },
        Some(before) if is_refusal(code) => Failed::Backend { before, failure: BackendError::broken(APPEND, reason) },
        Some(_) | None => Failed::nothing_but(BackendError::unknown(APPEND, reason)),
    })
}

/// A step of a transaction before its commit: whatever its outcome, nothing has taken effect.
async fn within<T>(deadline: Instant, step: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
    match timeout_at(deadline, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if is_lost_race(&error) => Err(lost(error)),
        Ok(Err(error)) => Err(Failed::nothing_but(without_effect(APPEND, error))),
        Err(late) => Err(Failed::nothing_but(BackendError::not_done(APPEND, late))),
    }
}

/// The transaction has no effect, since another writer was faster.
fn lost(error: Error) -> Failed {
    Failed::Race { before: 0, failure: without_effect(APPEND, error) }
}

/// Commits. Requesting the same commit again is harmless, so an unknown result is retried first.
async fn commit(session: &mut ClientSession, deadline: Instant) -> Result<(), Failed> {
    let mut last = None;
    for _ in 0..COMMIT_TRIES_MAX {
        match timeout_at(deadline, session.commit_transaction()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => last = Some(error),
            // A retried commit may get this answer for a transaction that was committed before.
            Ok(Err(error)) if error.contains_label(TRANSIENT_TRANSACTION_ERROR) && last.is_none() => {
                return Err(lost(error));
            }
            Ok(Err(error)) => return Err(Failed::nothing_but(BackendError::unknown(APPEND, error))),
            Err(late) => return Err(Failed::nothing_but(BackendError::unknown(APPEND, late))),
        }
    }
    let source = last.map_or_else(|| "the commit was not answered".into(), Into::into);
    Err(Failed::nothing_but(BackendError { source, ..BackendError::unknown(APPEND, "") }))
}
