//! Decides in memory which commits of a batch are taken (laws S1, S2, S4, S5).

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinate::Version;
use crate::id::{AccountId, CommitId};
use crate::store::{AppendError, Appended, Commit, IdempotencyKey, StoredCommit};

/// What is known about a batch when it is judged, updated with every commit taken.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) ids: BTreeMap<CommitId, StoredCommit>,
    pub(super) keys: BTreeMap<IdempotencyKey, StoredCommit>,
    /// The last versions of the batch's streams; one that is missing is empty.
    pub(super) heads: BTreeMap<AccountId, Version>,
}

/// A batch that was judged.
#[derive(Debug)]
pub(super) struct Judged {
    /// One for each commit.
    pub(super) fates: Vec<Result<Appended, AppendError>>,
    /// The heads of the taken commits' streams once they are written.
    pub(super) heads: BTreeMap<AccountId, Version>,
}

impl Judged {
    /// The commits to write, in order.
    pub(super) fn taken<'c>(&self, commits: &'c [Commit]) -> Vec<&'c Commit> {
        let taken = |(commit, fate): (&'c Commit, &Result<Appended, AppendError>)| {
            matches!(fate, Ok(Appended::New)).then_some(commit)
        };
        commits.iter().zip(&self.fates).filter_map(taken).collect()
    }

    /// Whether anything was refused.
    pub(super) fn refuses(&self) -> bool {
        self.fates.iter().any(Result::is_err)
    }
}

/// Judges the commits one after another; each sees the effects of those before it.
pub(super) fn judge(commits: &[Commit], known: Known) -> Judged {
    let mut bench = Bench { known, spoiled: BTreeSet::new(), heads: BTreeMap::new() };
    let fates = commits.iter().map(|commit| bench.take(commit)).collect();
    Judged { fates, heads: bench.heads }
}

struct Bench {
    known: Known,
    /// The streams of commits that wrote nothing: later commits to them were decided on what did not happen.
    spoiled: BTreeSet<AccountId>,
    heads: BTreeMap<AccountId, Version>,
}

impl Bench {
    fn take(&mut self, commit: &Commit) -> Result<Appended, AppendError> {
        let fate = self.fate(commit);
        let holds = match &fate {
            Ok(Appended::New) => true,
            Ok(Appended::Before(before)) => before.id == commit.id,
            Err(_) => false,
        };
        if !holds {
            self.spoiled.extend(commit.writes.iter().map(|write| write.stream));
        }
        fate
    }

    fn fate(&mut self, commit: &Commit) -> Result<Appended, AppendError> {
        let key = commit.key.as_ref().map(|keyed| &keyed.key);
        let before = self.known.ids.get(&commit.id).or_else(|| self.known.keys.get(key?));
        if let Some(before) = before {
            return Ok(Appended::Before(Box::new(before.clone())));
        }
        for write in &commit.writes {
            let head = self.known.heads.get(&write.stream).copied().unwrap_or_default();
            if self.spoiled.contains(&write.stream) || head != write.expected {
                return Err(AppendError::Conflict { stream: write.stream, expected: write.expected });
            }
        }
        self.keep(commit);
        Ok(Appended::New)
    }

    fn keep(&mut self, commit: &Commit) {
        for write in &commit.writes {
            let head = write.expected.plus(write.events.count.into());
            self.known.heads.insert(write.stream, head);
            self.heads.insert(write.stream, head);
        }
        let stored =
            StoredCommit { id: commit.id, time: commit.time, key: commit.key.clone(), receipt: commit.receipt.clone() };
        if let Some(keyed) = &commit.key {
            self.known.keys.insert(keyed.key.clone(), stored.clone());
        }
        self.known.ids.insert(commit.id, stored);
    }
}
