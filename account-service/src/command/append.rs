//! An append is repeated until each of its commits has a fate, or the time is up.
//!
//! Only commits without a fate are appended again, all with their ids, so by law S4 no repeat has a second effect. A
//! conflict is a fate also after an unknown attempt: if that attempt had taken effect, or still could, the repeat would
//! have met the commit itself and not a conflict, or the version it wants is taken for good.

use std::collections::BTreeSet;

use metrics::histogram;
use shared::error::{BackendError, Effect, Retry};
use shared::store::{AppendError, Appended, Commit, EventStore, StoredCommit};
use shared::telemetry::metric::APPEND_SECONDS;
use tokio::time::Instant;
use tracing::warn;

use super::patience::{Patience, STORE_CALL_TIME_MAX};

/// What became of a commit.
#[derive(Debug)]
pub(super) enum Fate {
    /// It was taken as it was decided.
    Taken,
    /// Its id or its key belongs to this commit; nothing was written.
    Before(Box<StoredCommit>),
    /// It was decided on an old version; nothing was written.
    Conflict,
    /// The store could not take it; nothing was written.
    NotTaken,
    /// Nobody knows.
    Unknown,
}

/// Appends the commits; the fates stand in their order.
pub(super) async fn until_known<S: EventStore>(store: &S, commits: &[Commit], patience: &mut Patience) -> Vec<Fate> {
    // What is true of a commit if nobody ever tells more; replaced when somebody does.
    let mut fates: Vec<Fate> = commits.iter().map(|_| Fate::NotTaken).collect();
    let mut open: Vec<usize> = (0..commits.len()).collect();
    while !open.is_empty() {
        let answers = append_once(store, open.iter().map(|&index| commits[index].clone()).collect()).await;
        let mut still_open = Vec::new();
        let mut retry = Retry::Never;
        let (mut failed, mut first_failure) = (0_usize, None);
        for (&index, answer) in open.iter().zip(answers) {
            match answer {
                Ok(Appended::New) => fates[index] = Fate::Taken,
                // The answer to an earlier try was lost.
                Ok(Appended::Before(first)) if is_same(&first, &commits[index]) => fates[index] = Fate::Taken,
                Ok(Appended::Before(first)) => fates[index] = Fate::Before(first),
                Err(AppendError::Conflict { .. }) => fates[index] = Fate::Conflict,
                Err(AppendError::Backend(failure)) => {
                    if failure.effect == Effect::Unknown {
                        fates[index] = Fate::Unknown;
                    }
                    if failure.retry != Retry::Never {
                        retry = failure.retry;
                        still_open.push(index);
                    }
                    failed += 1;
                    first_failure.get_or_insert(failure);
                }
            }
        }
        if let Some(failure) = first_failure {
            // Once for all of them: a store that is away fails whole batches.
            warn!(commits = failed, %failure, "append failed");
        }
        open = still_open;
        settle_dependants(commits, &mut open, &mut fates);
        if open.is_empty() || !patience.pause(retry).await {
            break;
        }
    }
    patience.reset();
    fates
}

/// Whether this commit was stored as it was decided now, and not in an earlier round.
fn is_same(stored: &StoredCommit, commit: &Commit) -> bool {
    stored.id == commit.id && stored.receipt == commit.receipt
}

/// What stands behind a commit that wrote nothing, and writes to one of its streams, was refused with it (law S5). Its
/// answer may be lost; asking again without the commit in front would let it pass if its version happens to fit.
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
