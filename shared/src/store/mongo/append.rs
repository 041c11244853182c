//! Judges a batch, inserts the commits taken, and tries again where another writer was faster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::MongoStore;
use super::abandoned::{HINDERED_AFTER, end_abandoned};
use super::insert::{Failed, insert};
use super::judge::{Judged, Known, judge};
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::{AccountId, CommitId};
use crate::store::{AppendError, Appended, Commit, IdempotencyKey};

/// How long a batch may take, including all tries.
pub(super) const APPEND_MAX: Duration = Duration::from_secs(20);

/// How often a batch is tried while other writers are faster. Each time, another one has succeeded.
const TRIES_MAX: u32 = 40;

/// The wait before the second try; it doubles up to [`WAIT_MAX`]. The winner needs about this long to commit.
const WAIT_MIN: Duration = Duration::from_millis(2);

/// The longest wait between tries.
const WAIT_MAX: Duration = Duration::from_millis(64);

pub(super) const APPEND: &str = "append";

/// What became of each commit of a batch.
type Fates = Vec<Result<Appended, AppendError>>;

/// Appends a batch.
pub(super) async fn append(store: &MongoStore, commits: &[Commit]) -> Fates {
    let mut written = BTreeSet::new();
    match until_settled(store, commits, &mut written).await {
        Ok(fates) => as_written(fates, &written),
        Err(failure) => given_up(&failure, commits, &written),
    }
}

/// `written` collects the commits known to be written by this call, even if others of the batch failed.
async fn until_settled(
    store: &MongoStore,
    commits: &[Commit],
    written: &mut BTreeSet<CommitId>,
) -> Result<Fates, BackendError> {
    let deadline = Instant::now() + APPEND_MAX;
    let mut judged = judge(commits, assume(store, commits).await?);
    if judged.refuses() {
        judged = judge(commits, learn(store, commits).await?);
    }
    let (mut waits, mut raced) = (Waits::new(), None);
    for tried in 0..TRIES_MAX {
        if Instant::now() >= deadline {
            break;
        }
        if tried > 0 {
            waits.wait(store).await;
            judged = judge(commits, learn(store, commits).await?);
        }
        let taken = judged.taken(commits);
        match insert(store, &taken, deadline).await {
            Ok(()) => {
                remember(store, &judged);
                return Ok(judged.fates);
            }
            Err(Failed::Backend { before, failure }) => {
                written.extend(taken[..before].iter().map(|commit| commit.id));
                return Err(failure);
            }
            Err(Failed::Race { before, failure }) => {
                debug!(tried, before, %failure, "another writer was faster, trying the batch again");
                written.extend(taken[..before].iter().map(|commit| commit.id));
                raced = Some(failure);
            }
        }
    }
    Err(raced.unwrap_or_else(|| BackendError::not_done(APPEND, "timed out before it was tried")))
}

/// The waits of a batch between its tries.
struct Waits {
    next: Duration,
    /// When it has lost races for so long that the reason is looked for.
    hindered: Instant,
}

impl Waits {
    fn new() -> Self {
        Self { next: WAIT_MIN, hindered: Instant::now() + HINDERED_AFTER }
    }

    /// Waits before the next try.
    async fn wait(&mut self, store: &MongoStore) {
        if Instant::now() >= self.hindered {
            end_abandoned(&store.client, &store.application).await;
            self.hindered = Instant::now() + HINDERED_AFTER;
        }
        sleep(self.next).await;
        self.next = WAIT_MAX.min(self.next * 2);
    }
}

/// A commit that this call wrote in an earlier try is found as a repeat; it was taken now.
fn as_written(mut fates: Fates, written: &BTreeSet<CommitId>) -> Fates {
    for fate in &mut fates {
        if matches!(fate, Ok(Appended::Before(before)) if written.contains(&before.id)) {
            *fate = Ok(Appended::New);
        }
    }
    fates
}

/// The failure of a batch, as the answer to each commit that is not known to be written.
fn given_up(failure: &BackendError, commits: &[Commit], written: &BTreeSet<CommitId>) -> Fates {
    let fate = |commit: &Commit| {
        if written.contains(&commit.id) { Ok(Appended::New) } else { Err(failure.copy().into()) }
    };
    commits.iter().map(fate).collect()
}

/// What judging a batch of new commits needs, mostly without asking: the unique indexes tell by themselves whether an
/// id or key is taken, and where the streams end is often known from the last look at them.
async fn assume(store: &MongoStore, commits: &[Commit]) -> Result<Known, BackendError> {
    let mut heads = BTreeMap::new();
    let mut unknown = Vec::new();
    for (stream, believed) in first_beliefs(commits) {
        match store.ends.get(&stream) {
            Some(end) if end >= believed => {
                heads.insert(stream, end);
            }
            // The insert finds out whether it is empty.
            _ if believed == Version::EMPTY => {}
            _ => unknown.push(stream),
        }
    }
    heads.extend(store.read_heads(&unknown).await?);
    Ok(Known { heads, ..Known::default() })
}

/// The same from the store alone, including taken ids and keys, since a refusal may turn out to be a repeat.
async fn learn(store: &MongoStore, commits: &[Commit]) -> Result<Known, BackendError> {
    let ids: Vec<_> = commits.iter().map(|commit| commit.id).collect();
    let keys: Vec<IdempotencyKey> =
        commits.iter().filter_map(|commit| commit.key.as_ref()).map(|keyed| keyed.key.clone()).collect();
    let streams: Vec<AccountId> = first_beliefs(commits).into_keys().collect();
    // The heads come first: a repeat taken between the two look-ups is then recognised as one.
    let heads = store.read_heads(&streams).await?;
    let (by_id, by_key) = futures::try_join!(store.commits_by_id(&ids), store.commits_by_key(&keys))?;
    Ok(Known { ids: by_id, keys: by_key, heads })
}

/// The version that the first write to each stream in the batch expects.
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
