//! Law S3. A feed may yield again what was visible before its position; these promises are about what follows it.

use std::collections::BTreeMap;
use std::task::Poll;

use futures::future::{join, join_all};
use futures::poll;

use super::fixture::{Scribe, append_new, append_one, traces};
use crate::coordinate::{Position, Version};
use crate::event::Recorded;
use crate::id::AccountId;
use crate::store::{ChangeFeed, Commit, EventStore, FeedEntry};

/// How many batches in a row may be empty before a write counts as lost.
const EMPTY_BATCHES_MAX: usize = 60;

/// Reads until everything in `expected` was yielded. Each stream must continue from its version in `known` without a
/// gap; writes up to that version may be repeated.
async fn read_until<F: ChangeFeed>(
    feed: &mut F,
    expected: &[Recorded],
    mut known: BTreeMap<AccountId, Version>,
    limit: usize,
) -> Vec<FeedEntry> {
    let (mut entries, mut missing, mut idle) = (Vec::new(), expected.len(), 0);
    while missing > 0 {
        let batch = feed.next_batch(limit).await.unwrap();
        assert!(batch.entries.len() <= limit, "{} writes, limit {limit}", batch.entries.len());
        idle = if batch.entries.is_empty() { idle + 1 } else { 0 };
        assert!(idle < EMPTY_BATCHES_MAX, "{missing} writes are missing");
        for entry in batch.entries {
            let head = known.entry(entry.recorded.stream).or_default();
            if entry.recorded.first_version <= *head {
                continue;
            }
            assert_eq!(entry.recorded.first_version, head.next(), "a gap");
            *head = entry.recorded.last_version();
            assert!(expected.contains(&entry.recorded), "nobody wrote {:?}", entry.recorded);
            missing -= 1;
            entries.push(entry);
        }
    }
    entries
}

fn heads(records: &[Recorded]) -> BTreeMap<AccountId, Version> {
    records.iter().map(|record| (record.stream, record.last_version())).collect()
}

/// Commits to three streams, some to two of them at once.
fn interwoven(scribe: &Scribe) -> Vec<Commit> {
    let accounts = scribe.accounts(3);
    let (mut heads, mut commits) = ([0; 3], Vec::new());
    for n in 0..20 {
        let (one, two) = (n % 3, (n + 1) % 3);
        let mut writes = vec![(accounts[one], heads[one], 2)];
        heads[one] += 2;
        if n % 4 == 0 {
            writes.push((accounts[two], heads[two], 1));
            heads[two] += 1;
        }
        commits.push(scribe.commit(&writes));
    }
    commits
}

/// Wherever a reader stops, the next one continues without a gap.
pub async fn a_feed_resumes_behind_every_position(store: &impl EventStore) {
    let commits = interwoven(&Scribe::new());
    append_new(store, &commits).await;
    let expected: Vec<Recorded> = commits.iter().flat_map(traces).collect();
    let mut feed = store.feed(Position::Start).await.unwrap();
    let entries = read_until(&mut feed, &expected, BTreeMap::new(), 7).await;
    let records: Vec<Recorded> = entries.iter().map(|entry| entry.recorded.clone()).collect();
    for (n, entry) in entries.iter().enumerate() {
        let (before, after) = records.split_at(n + 1);
        let mut feed = store.feed(entry.position.clone()).await.unwrap();
        let resumed = read_until(&mut feed, after, heads(before), 3).await;
        assert_eq!(resumed.len(), after.len(), "behind {}", entry.position);
    }
}

/// A feed that is opened before many concurrent writers.
pub async fn a_feed_sees_everything_that_is_appended_meanwhile(store: &impl EventStore) {
    let scribe = &Scribe::new();
    let commits: Vec<Commit> = scribe
        .accounts(20)
        .into_iter()
        .flat_map(|account| (0..10).map(move |head| scribe.commit(&[(account, head, 1)])))
        .collect();
    let expected: Vec<Recorded> = commits.iter().flat_map(traces).collect();
    let mut feed = store.feed(Position::Start).await.unwrap();
    let write = |chain: &'_ [Commit]| {
        let chain = chain.to_vec();
        async move {
            for commit in &chain {
                append_one(store, commit).await.unwrap();
            }
        }
    };
    let (entries, _) =
        join(read_until(&mut feed, &expected, BTreeMap::new(), 16), join_all(commits.chunks(10).map(write))).await;
    assert_eq!(entries.len(), expected.len());
}

/// The head is a position too: what was there before need not be yielded, what comes later is not missed.
pub async fn a_feed_from_the_head_yields_what_comes_later(store: &impl EventStore) {
    let scribe = Scribe::new();
    let account = scribe.account();
    let empty = store.head().await.unwrap();
    let early = scribe.commit(&[(account, 0, 1)]);
    append_new(store, std::slice::from_ref(&early)).await;
    let head = store.head().await.unwrap();
    let late = scribe.commit(&[(account, 1, 1)]);
    append_new(store, std::slice::from_ref(&late)).await;
    let mut feed = store.feed(head).await.unwrap();
    read_until(&mut feed, &traces(&late), heads(&traces(&early)), 10).await;
    let mut feed = store.feed(empty).await.unwrap();
    read_until(&mut feed, &[traces(&early), traces(&late)].concat(), BTreeMap::new(), 10).await;
}

/// It returns, with a position from which the next write is seen.
pub async fn a_feed_without_news_says_that_it_is_alive(store: &impl EventStore) {
    let scribe = Scribe::new();
    let mut feed = store.feed(store.head().await.unwrap()).await.unwrap();
    let batch = feed.next_batch(10).await.unwrap();
    assert!(batch.entries.is_empty());
    let commit = scribe.commit(&[(scribe.account(), 0, 1)]);
    append_new(store, std::slice::from_ref(&commit)).await;
    let mut resumed = store.feed(batch.reached).await.unwrap();
    for feed in [&mut feed, &mut resumed] {
        read_until(feed, &traces(&commit), BTreeMap::new(), 10).await;
    }
}

/// A caller may stop waiting at any moment.
pub async fn a_dropped_call_of_a_feed_loses_nothing(store: &impl EventStore) {
    let scribe = Scribe::new();
    let account = scribe.account();
    let mut feed = store.feed(Position::Start).await.unwrap();
    for head in 0..20 {
        let commit = scribe.commit(&[(account, head, 1)]);
        let mut waiting = Box::pin(feed.next_batch(10));
        let answered = poll!(&mut waiting);
        append_new(store, std::slice::from_ref(&commit)).await;
        // Polled again when the answer may be half-way, then dropped unless it has answered.
        let answered = if answered.is_pending() { poll!(&mut waiting) } else { answered };
        drop(waiting);
        let mut known = BTreeMap::from([(account, Version::new(head))]);
        if let Poll::Ready(batch) = answered {
            known.extend(batch.unwrap().entries.iter().map(|entry| (account, entry.recorded.last_version())));
        }
        let missing = if known[&account].get() > head { Vec::new() } else { traces(&commit) };
        read_until(&mut feed, &missing, known, 10).await;
    }
}
