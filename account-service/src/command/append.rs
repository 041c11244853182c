//! Repeats an append until each of its commits has a fate, or the time is up.
//!
//! Only commits without a fate are appended again, under the same ids, so by law S4 no repeat has a second effect. A
//! conflict is a final fate even after an attempt with an unknown outcome: had that attempt taken effect, the repeat
//! would have found the commit itself; and it no longer can, since the version it needs is taken for good.

use std::collections::BTreeSet;

use metrics::histogram;
use shared::error::{BackendError, Effect, Retry};
use shared::store::{AppendError, Appended, Commit, EventStore, StoredCommit};
use shared::telemetry::Seldom;
use shared::telemetry::metric::APPEND_SECONDS;
use tokio::time::Instant;
use tracing::warn;

use super::patience::{Patience, STORE_CALL_TIME_MAX};

/// A store that is full or away fails every append.
static FAILED: Seldom = Seldom::new();

/// What became of a commit.
#[derive(Debug)]
pub(super) enum Fate {
    /// It was taken as it was decided.
    Taken,
    /// Its id or its key already belongs to this commit; nothing was written.
    Before(Box<StoredCommit>),
    /// It was decided on an old version; nothing was written.
    Conflict,
    /// The store could not take it; nothing was written.
    NotTaken,
    /// It may or may not have been taken.
    Unknown,
}

/// Appends the commits and returns their fates in the same order.
pub(super) async fn until_known<S: EventStore>(store: &S, commits: &[Commit], patience: &mut Patience) -> Vec<Fate> {
    // The fate of a commit until an answer says otherwise.
    let mut fates: Vec<Fate> = commits.iter().map(|_| Fate::NotTaken).collect();
    let mut open: Vec<usize> = (0..commits.len()).collect();
    while !open.is_empty() {
        let answers = append_once(store, open.iter().map(|&index| commits[index].clone()).collect()).await;
        let (mut still_open, mut retry) = (Vec::new(), Retry::Never);
        let mut failures = Vec::new();
        for (&index, answer) in open.iter().zip(answers) {
            match told(answer, &commits[index]) {
                Ok(fate) => fates[index] = fate,
                Err(failure) => {
                    if failure.effect == Effect::Unknown {
                        fates[index] = Fate::Unknown;
                    }
                    if failure.retry != Retry::Never {
                        retry = failure.retry;
                        still_open.push(index);
                    }
                    failures.push(failure);
                }
            }
        }
        report(&failures);
        open = still_open;
        settle_dependants(commits, &mut open, &mut fates);
        if open.is_empty() || !patience.pause(retry).await {
            break;
        }
    }
    patience.reset();
    fates
}

/// Logs failures, once for all of them: an unreachable store fails whole batches.
fn report(failures: &[BackendError]) {
    if let Some(failure) = failures.first()
        && let Some(left_out) = FAILED.due()
    {
        warn!(commits = failures.len(), %failure, left_out, "append failed");
    }
}

/// The fate that an answer tells, or the failure that leaves it open.
fn told(answer: Result<Appended, AppendError>, commit: &Commit) -> Result<Fate, BackendError> {
    match answer {
        Ok(Appended::New) => Ok(Fate::Taken),
        // The answer to an earlier attempt was lost.
        Ok(Appended::Before(first)) if is_same(&first, commit) => Ok(Fate::Taken),
        Ok(Appended::Before(first)) => Ok(Fate::Before(first)),
        Err(AppendError::Conflict { .. }) => Ok(Fate::Conflict),
        Err(AppendError::Backend(failure)) => Err(failure),
    }
}

/// Whether the stored commit is this one as decided now, and not as decided in an earlier round.
fn is_same(stored: &StoredCommit, commit: &Commit) -> bool {
    stored.id == commit.id && stored.receipt == commit.receipt
}

/// Settles commits that write to a stream of an earlier commit which wrote nothing: they were refused with it (law S5).
/// That answer may be lost; appended again without the earlier commit, they would pass if their version happens to fit.
fn settle_dependants(commits: &[Commit], open: &mut Vec<usize>, fates: &mut [Fate]) {
    if open.is_empty() {
        return;
    }
    let mut spoiled = BTreeSet::new();
    for (index, commit) in commits.iter().enumerate() {
        let streams = commit.writes.iter().map(|write| write.stream);
        if open.contains(&index) && streams.clone().any(|stream| spoiled.contains(&stream)) {
            fates[index] = Fate::Conflict;
            open.retain(|still| *still != index);
        }
        let wrote_nothing = match &fates[index] {
            Fate::Before(first) => first.id != commit.id,
            Fate::Conflict => true,
            Fate::Taken | Fate::NotTaken | Fate::Unknown => false,
        };
        if wrote_nothing {
            spoiled.extend(streams);
        }
    }
}

async fn append_once<S: EventStore>(store: &S, commits: Vec<Commit>) -> Vec<Result<Appended, AppendError>> {
    let asked = commits.len();
    let unknown = |reason: &'static str| {
        (0..asked).map(|_| Err(BackendError::unknown("append", reason).into())).collect::<Vec<_>>()
    };
    let began = Instant::now();
    let answered = tokio::time::timeout(STORE_CALL_TIME_MAX, store.append(commits)).await;
    histogram!(APPEND_SECONDS.name).record(began.elapsed().as_secs_f64());
    match answered {
        Ok(answers) if answers.len() == asked => answers,
        Ok(_) => unknown("the store did not answer every commit"),
        Err(_) => unknown("the store did not answer in time"),
    }
}
