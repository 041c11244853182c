//! Law S6.

use std::collections::BTreeMap;

use futures::future::{join, join_all};

use super::fixture::{Scribe, append_new, append_one, traces, whole_scan};
use crate::coordinate::Version;
use crate::event::Recorded;
use crate::id::AccountId;
use crate::partition::{PartitionMap, SLOTS, Slot, SlotRange};
use crate::store::{Commit, EventStore};

const STREAMS: usize = 40;

/// Appends streams of one to four writes; returns what a scan of everything should yield.
async fn filled(store: &impl EventStore, scribe: &Scribe) -> Vec<Recorded> {
    let mut commits: Vec<Commit> = Vec::new();
    for (n, account) in scribe.accounts(STREAMS).into_iter().enumerate() {
        let mut head = 0;
        for write in 0..=n % 4 {
            let count = 1 + u32::try_from((n + write) % 3).unwrap();
            commits.push(scribe.commit(&[(account, head, count)]));
            head += u64::from(count);
        }
    }
    append_new(store, &commits).await;
    let mut expected: Vec<Recorded> = commits.iter().flat_map(traces).collect();
    expected.sort_by_key(|record| (Slot::of(&record.stream), record.stream, record.first_version));
    expected
}

fn within(records: &[Recorded], slots: SlotRange) -> Vec<Recorded> {
    records.iter().filter(|record| slots.contains(Slot::of(&record.stream))).cloned().collect()
}

/// Any partitioning and any page size: the same streams in the same order.
pub async fn a_scan_yields_each_range_in_order_and_in_pages_of_any_size(store: &impl EventStore) {
    assert!(whole_scan(store, SlotRange::ALL, 10).await.is_empty());
    let expected = filled(store, &Scribe::new()).await;
    for limit in [1, 2, 7, 10_000] {
        assert!(whole_scan(store, SlotRange::ALL, limit).await == expected, "limit {limit}");
    }
    let map = PartitionMap::new(7).unwrap();
    for slots in map.all().map(|partition| map.slots(partition)).chain([SlotRange { start: SLOTS - 1, end: SLOTS }]) {
        assert!(whole_scan(store, slots, 5).await == within(&expected, slots), "{slots:?}");
    }
    let page = store.scan(SlotRange::ALL, None, 5).await.unwrap();
    let events = page.records.iter().map(|record| record.events.count).sum::<u32>();
    assert!((5..5 + 3).contains(&events), "about five events, not {events}");
}

/// Everything that was there when the scan began is in it, and no stream has a gap from its first event on.
pub async fn a_scan_loses_nothing_while_others_write(store: &impl EventStore) {
    let scribe = &Scribe::new();
    let before = filled(store, scribe).await;
    let heads: BTreeMap<AccountId, u64> =
        before.iter().map(|record| (record.stream, record.last_version().get())).collect();
    let write = async {
        for round in 0..5 {
            let grow = |(account, head): (&AccountId, &u64)| scribe.commit(&[(*account, head + round, 1)]);
            let commits: Vec<Commit> = heads.iter().map(grow).collect();
            for fate in join_all(commits.iter().map(|commit| append_one(store, commit))).await {
                fate.unwrap();
            }
        }
    };
    let (seen, ()) = join(whole_scan(store, SlotRange::ALL, 3), write).await;
    let order = |record: &Recorded| (Slot::of(&record.stream), record.stream, record.first_version);
    assert!(seen.is_sorted_by(|one, next| order(one) < order(next)), "out of order");
    let mut found: BTreeMap<AccountId, Version> = BTreeMap::new();
    for record in &seen {
        let head = found.entry(record.stream).or_insert(Version::EMPTY);
        assert_eq!(record.first_version, head.next(), "a gap");
        *head = record.last_version();
    }
    for (account, head) in heads {
        assert!(found.get(&account).is_some_and(|found| found.get() >= head), "{account} lost events");
    }
}

/// Each stream once, in order, with its last version.
pub async fn heads_are_the_last_versions_in_pages_of_any_size(store: &impl EventStore) {
    let records = filled(store, &Scribe::new()).await;
    let mut expected: Vec<(AccountId, Version)> = Vec::new();
    for record in &records {
        match expected.last_mut() {
            Some((stream, head)) if *stream == record.stream => *head = record.last_version(),
            Some(_) | None => expected.push((record.stream, record.last_version())),
        }
    }
    let half = SlotRange { start: 0, end: SLOTS / 2 };
    for (slots, limit) in [(SlotRange::ALL, 1), (SlotRange::ALL, STREAMS), (half, 3), (SlotRange::ALL, 1_000)] {
        let (mut heads, mut after) = (Vec::new(), None);
        loop {
            let page = store.heads(slots, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            let last = page.len() < limit;
            heads.extend(page);
            after = heads.last().map(|(stream, _)| *stream);
            if last {
                break;
            }
        }
        let expected: Vec<_> =
            expected.iter().copied().filter(|(stream, _)| slots.contains(Slot::of(stream))).collect();
        assert_eq!(heads, expected, "{slots:?} in pages of {limit}");
    }
}
