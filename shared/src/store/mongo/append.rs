use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::ClientSession;
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::MongoStore;
use super::abandoned::{HINDERED_AFTER, end_abandoned};
use super::failure::{is_lost_race, without_effect};
use super::judge::{Judged, Known, judge};
use super::schema::{CommitDocument, EventDocument};
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::AccountId;
use crate::store::{AppendError, Appended, Commit, IdempotencyKey};

/// How long a batch may take, with all its tries.
const APPEND_MAX: Duration = Duration::from_secs(20);

/// How often a batch is judged anew after another writer was faster. Each time somebody else got through.
const TRIES_MAX: u32 = 40;

/// The wait before the second try; it doubles up to [`WAIT_MAX`]. The winner needs about this long to commit.
const WAIT_MIN: Duration = Duration::from_millis(2);

/// The longest wait between tries.
const WAIT_MAX: Duration = Duration::from_millis(64);

/// How often the same commit of a transaction is asked for; the driver doubles each.
const COMMIT_TRIES_MAX: u32 = 3;

const APPEND: &str = "append";

/// Why a transaction did not commit.
enum Failed {
    /// It had no effect: another writer was faster, or the server gave it up.
    Race(Error),
    /// Anything else.
    Backend(BackendError),
}

/// Judges a batch, writes what is taken in one transaction, and begins again when another writer was faster.
pub(super) async fn append(
    store: &MongoStore,
    commits: &[Commit],
) -> Result<Vec<Result<Appended, AppendError>>, BackendError> {
    let deadline = Instant::now() + APPEND_MAX;
    let mut hindered = Instant::now() + HINDERED_AFTER;
    let mut judged = judge(commits, assume(store, commits).await?);
    if judged.refuses() {
        judged = judge(commits, learn(store, commits).await?);
    }
    let mut wait = WAIT_MIN;
    let mut raced = None;
    for tried in 0..TRIES_MAX {
        if tried > 0 {
            sleep(wait).await;
            wait = WAIT_MAX.min(wait * 2);
            judged = judge(commits, learn(store, commits).await?);
        }
        match write(store, &judged.taken(commits), deadline).await {
            Ok(()) => {
                remember(store, &judged);
                return Ok(judged.fates);
            }
            Err(Failed::Backend(failure)) => return Err(failure),
            Err(Failed::Race(error)) => {
                debug!(tried, %error, "another writer was faster, the batch is judged again");
                raced = Some(error);
            }
        }
        if Instant::now() >= hindered {
            let ended = end_abandoned(&store.client, &store.application);
            if timeout_at(deadline, Box::pin(ended)).await.is_err() {
                break;
            }
            hindered = Instant::now() + HINDERED_AFTER;
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(match raced {
        Some(error) => without_effect(APPEND, error),
        None => BackendError::not_done(APPEND, "no time was left to try"),
    })
}

/// What a batch of new commits needs to know, mostly without asking: that no id or key is taken, the unique indexes
/// say themselves; that the streams end where the writers believe, is often known from the last look at them.
async fn assume(store: &MongoStore, commits: &[Commit]) -> Result<Known, BackendError> {
    let mut heads = BTreeMap::new();
    let mut unknown = Vec::new();
    for (stream, believed) in first_beliefs(commits) {
        match store.ends.get(&stream) {
            Some(end) if end >= believed => {
                heads.insert(stream, end);
            }
            // Whether it is empty, the insert finds out.
            _ if believed == Version::EMPTY => {}
            _ => unknown.push(stream),
        }
    }
    heads.extend(store.read_heads(&unknown).await?);
    Ok(Known { heads, ..Known::default() })
}

/// The same from the store alone, with the repeats that a refusal may turn out to be.
async fn learn(store: &MongoStore, commits: &[Commit]) -> Result<Known, BackendError> {
    let ids: Vec<_> = commits.iter().map(|commit| commit.id).collect();
    let keys: Vec<IdempotencyKey> =
        commits.iter().filter_map(|commit| commit.key.as_ref()).map(|keyed| keyed.key.clone()).collect();
    let streams: Vec<AccountId> = first_beliefs(commits).into_keys().collect();
    // The heads come first: a repeat that is taken between the two looks is then found as what it is.
    let heads = store.read_heads(&streams).await?;
    let (by_id, by_key) = futures::try_join!(store.commits_by_id(&ids), store.commits_by_key(&keys))?;
    Ok(Known { ids: by_id, keys: by_key, heads })
}

/// What each stream's first writer in the batch believes.
fn first_beliefs(commits: &[Commit]) -> BTreeMap<AccountId, Version> {
    let mut beliefs = BTreeMap::new();
    for write in commits.iter().flat_map(|commit| &commit.writes) {
        beliefs.entry(write.stream).or_insert(write.expected);
    }
    beliefs
}

fn remember(store: &MongoStore, judged: &Judged) {
    for (stream, head) in &judged.heads {
        store.ends.insert(*stream, *head);
    }
}

async fn write(store: &MongoStore, taken: &[&Commit], deadline: Instant) -> Result<(), Failed> {
    if taken.is_empty() {
        return Ok(());
    }
    let (commits, events) = documents(taken)?;
    let mut session = within(deadline, async { store.client.start_session().causal_consistency(false).await }).await?;
    let inserted = within(deadline, async {
        session.start_transaction().await?;
        store.commits.insert_many(&commits).session(&mut session).await?;
        store.events.insert_many(&events).session(&mut session).await?;
        Ok(())
    });
    if let Err(failed) = Box::pin(inserted).await {
        // Only to free its locks early: a transaction that nobody commits has no effect.
        if let Ok(Err(error)) = timeout_at(deadline, session.abort_transaction()).await {
            debug!(%error, "a transaction was left to the server to abort");
        }
        return Err(failed);
    }
    Box::pin(commit(&mut session, deadline)).await
}

fn documents(taken: &[&Commit]) -> Result<(Vec<CommitDocument>, Vec<EventDocument>), Failed> {
    let events: Result<Vec<_>, _> =
        taken.iter().flat_map(|commit| commit.writes.iter().map(|write| EventDocument::of(commit, write))).collect();
    let events = events.map_err(|error| Failed::Backend(BackendError::broken(APPEND, error)))?;
    Ok((taken.iter().map(|commit| CommitDocument::of(commit)).collect(), events))
}

/// A step before the commit: whatever becomes of it, nothing has happened.
async fn within<T>(deadline: Instant, step: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
    match timeout_at(deadline, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if is_lost_race(&error) => Err(Failed::Race(error)),
        Ok(Err(error)) => Err(Failed::Backend(without_effect(APPEND, error))),
        Err(late) => Err(Failed::Backend(BackendError::not_done(APPEND, late))),
    }
}

/// Commits. Asking again for the same commit is harmless, so an unknown answer is asked for again first.
async fn commit(session: &mut ClientSession, deadline: Instant) -> Result<(), Failed> {
    let mut last = None;
    for _ in 0..COMMIT_TRIES_MAX {
        match timeout_at(deadline, session.commit_transaction()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => last = Some(error),
            // A commit that was asked for again may answer so about a transaction that did commit before.
            Ok(Err(error)) if error.contains_label(TRANSIENT_TRANSACTION_ERROR) && last.is_none() => {
                return Err(Failed::Race(error));
            }
            Ok(Err(error)) => return Err(Failed::Backend(BackendError::unknown(APPEND, error))),
            Err(late) => return Err(Failed::Backend(BackendError::unknown(APPEND, late))),
        }
    }
    let source = last.map_or_else(|| "the commit was not answered".into(), Into::into);
    Err(Failed::Backend(BackendError { source, ..BackendError::unknown(APPEND, "") }))
}
