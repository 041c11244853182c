//! The laws of appending, checked over random batches against the simplest model that keeps them.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::fixture::{Scribe, assert_before, conflict, traces, whole_scan, whole_stream};
use crate::event::Recorded;
use crate::id::{AccountId, CommitId};
use crate::partition::{Slot, SlotRange};
use crate::store::{Appended, Commit, EventStore, IdempotencyKey, StreamWrite};

/// How many sequences of batches are tried.
const SEEDS: u64 = 12;
/// How many batches a sequence has.
const BATCHES: usize = 25;

/// The simplest model of a store.
#[derive(Default)]
struct Model {
    streams: BTreeMap<AccountId, Vec<Recorded>>,
    ids: BTreeMap<CommitId, Commit>,
    keys: BTreeMap<IdempotencyKey, CommitId>,
}

enum Fate {
    New,
    Before(CommitId),
    Conflict(AccountId),
}

impl Model {
    fn head(&self, stream: AccountId) -> u64 {
        self.streams.get(&stream).and_then(|records| records.last()).map_or(0, |last| last.last_version().get())
    }

    /// Takes a commit of a batch; `spoiled` has the streams of earlier ones that wrote nothing.
    fn append(&mut self, commit: &Commit, spoiled: &mut BTreeSet<AccountId>) -> Fate {
        let fate = self.judge(commit, spoiled);
        let holds = match fate {
            Fate::New => true,
            Fate::Before(first) => first == commit.id,
            Fate::Conflict(_) => false,
        };
        if !holds {
            spoiled.extend(commit.writes.iter().map(|write| write.stream));
        }
        fate
    }

    fn judge(&mut self, commit: &Commit, spoiled: &BTreeSet<AccountId>) -> Fate {
        let key = commit.key.as_ref().map(|keyed| &keyed.key);
        let before = self.ids.get(&commit.id).map(|first| first.id).or_else(|| self.keys.get(key?).copied());
        if let Some(first) = before {
            return Fate::Before(first);
        }
        let misfits =
            |write: &&StreamWrite| spoiled.contains(&write.stream) || self.head(write.stream) != write.expected.get();
        if let Some(write) = commit.writes.iter().find(misfits) {
            return Fate::Conflict(write.stream);
        }
        for record in traces(commit) {
            self.streams.entry(record.stream).or_default().push(record);
        }
        self.ids.insert(commit.id, commit.clone());
        if let Some(key) = key {
            self.keys.insert(key.clone(), commit.id);
        }
        Fate::New
    }
}

/// Any mixture of good commits, stale ones, repeats of ids and repeats of keys.
pub async fn random_batches_are_answered_as_by_a_simple_model(store: &impl EventStore) {
    let scribe = Scribe::new();
    let mut model = Model::default();
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let accounts = scribe.accounts(5);
        let keys: Vec<IdempotencyKey> = (0..15).map(|_| scribe.key()).collect();
        let mut sent: Vec<Commit> = Vec::new();
        for batch in 0..BATCHES {
            let mut commits = Vec::new();
            let mut expected = Vec::new();
            let mut spoiled = BTreeSet::new();
            for _ in 0..random.random_range(1..8) {
                let commit = random_commit(&mut random, &scribe, &model, &accounts, &keys, &sent);
                expected.push(model.append(&commit, &mut spoiled));
                sent.push(commit.clone());
                commits.push(commit);
            }
            let fates = store.append(commits).await;
            assert_eq!(fates.len(), expected.len());
            for (n, (fate, expected)) in fates.into_iter().zip(expected).enumerate() {
                match expected {
                    Fate::New => assert_eq!(fate.unwrap(), Appended::New, "seed {seed}, batch {batch}, commit {n}"),
                    Fate::Before(first) => assert_before(fate, &model.ids[&first]),
                    Fate::Conflict(stream) => {
                        assert_eq!(conflict(fate), stream, "seed {seed}, batch {batch}, commit {n}");
                    }
                }
            }
        }
        for account in accounts {
            let expected = model.streams.get(&account).cloned().unwrap_or_default();
            assert!(whole_stream(store, account).await == expected, "seed {seed}, stream {account}");
        }
    }
    let mut expected: Vec<Recorded> = model.streams.into_values().flatten().collect();
    expected.sort_by_key(|record| (Slot::of(&record.stream), record.stream, record.first_version));
    assert!(whole_scan(store, SlotRange::ALL, 100).await == expected, "the scan differs");
}

fn random_commit(
    random: &mut StdRng,
    scribe: &Scribe,
    model: &Model,
    accounts: &[AccountId],
    keys: &[IdempotencyKey],
    sent: &[Commit],
) -> Commit {
    if random.random_ratio(1, 8)
        && let Some(repeat) = sent.choose(random)
    {
        return repeat.clone();
    }
    let streams = random.random_range(1..=2);
    let writes: Vec<(AccountId, u64, u32)> = accounts
        .sample(random, streams)
        .map(|account| (*account, model.head(*account)))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(account, head)| {
            let believed = if random.random_ratio(1, 6) { head.abs_diff(random.random_range(1..3)) } else { head };
            (account, believed, random.random_range(1..4))
        })
        .collect();
    if random.random_ratio(1, 3) { scribe.keyed(keys.choose(random).unwrap(), &writes) } else { scribe.commit(&writes) }
}
