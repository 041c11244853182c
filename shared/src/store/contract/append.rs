//! Laws S1, S2 and S5.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::fixture::{Scribe, append_new, append_one, conflict, head_of, traces, whole_stream};
use crate::coordinate::Version;
use crate::event::{AccountEvent, Recorded, codec};
use crate::id::{AccountId, CommitId};
use crate::store::{AppendError, Appended, Commit, EventStore};

/// Law S1, without concurrent writers.
pub async fn a_commit_to_several_streams_is_taken_whole_or_not_at_all(store: &impl EventStore) {
    let scribe = Scribe::new();
    let (a, b) = (scribe.account(), scribe.account());
    let transfer = scribe.commit(&[(a, 0, 1), (b, 0, 2)]);
    append_new(store, std::slice::from_ref(&transfer)).await;
    for (order, stale) in
        [(vec![(a, 1, 1), (b, 1, 1)], b), (vec![(b, 1, 1), (a, 1, 1)], b), (vec![(b, 2, 1), (a, 0, 1)], a)]
    {
        let refused = scribe.commit(&order);
        assert_eq!(conflict(append_one(store, &refused).await), stale);
        assert_eq!(store.find_commits(&[refused.id]).await.unwrap(), [None]);
    }
    assert_eq!([whole_stream(store, a).await, whole_stream(store, b).await].concat(), traces(&transfer));
}

/// Law S2 under contention: every writer succeeds, and together they write one stream.
pub async fn concurrent_writers_of_a_stream_leave_no_gap_and_no_twin(store: &impl EventStore) {
    const WRITERS: u32 = 64;
    let scribe = &Scribe::new();
    let stream = scribe.account();
    let write = |writer: u32| async move {
        // A writer loses only to one that wins, and each of the others wins once.
        for _ in 0..WRITERS {
            let head = head_of(&whole_stream(store, stream).await);
            let commit = scribe.commit(&[(stream, head.get(), writer % 3 + 1)]);
            match append_one(store, &commit).await {
                Ok(appended) => {
                    assert_eq!(appended, Appended::New);
                    return commit;
                }
                Err(AppendError::Conflict { .. }) => {}
                Err(AppendError::Backend(failure)) => panic!("{failure}"),
            }
        }
        panic!("a writer lost more often than the others won")
    };
    let mut written: Vec<Recorded> = join_all((0..WRITERS).map(write)).await.iter().flat_map(traces).collect();
    written.sort_by_key(|record| record.first_version);
    assert!(whole_stream(store, stream).await == written, "the stream is not what its writers were told");
}

/// Law S1 under contention: a transfer that was taken is in both streams once, a refused one in neither.
pub async fn concurrent_transfers_reach_both_streams_or_none(store: &impl EventStore) {
    let scribe = &Scribe::new();
    let accounts = &scribe.accounts(4);
    let transfer = |n: usize| async move {
        let (from, to) = (accounts[n % 4], accounts[(n + 1 + n / 4 % 3) % 4]);
        let heads = [head_of(&whole_stream(store, from).await), head_of(&whole_stream(store, to).await)];
        let commit = scribe.commit(&[(from, heads[0].get(), 1), (to, heads[1].get(), 1)]);
        let fate = append_one(store, &commit).await;
        (commit, fate)
    };
    let fates = join_all((0..48).map(transfer)).await;
    let mut found = Vec::new();
    for account in accounts {
        for record in whole_stream(store, *account).await {
            found.extend(transactions(&record).into_iter().map(|transaction| (*account, transaction)));
        }
    }
    let mut expected: Vec<(AccountId, CommitId)> = Vec::new();
    for (commit, fate) in fates {
        match fate {
            Ok(_) => expected.extend(commit.writes.iter().map(|write| (write.stream, commit.id))),
            Err(AppendError::Conflict { .. }) => {}
            Err(AppendError::Backend(failure)) => panic!("{failure}"),
        }
    }
    assert!(!expected.is_empty(), "nobody got through");
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected.into_iter().collect());
}

fn transactions(record: &Recorded) -> Vec<CommitId> {
    let transaction = |event: &AccountEvent| match event {
        AccountEvent::MoneyDeposited { transaction, .. }
        | AccountEvent::MoneyWithdrawn { transaction, .. }
        | AccountEvent::TransferSent { transaction, .. }
        | AccountEvent::TransferReceived { transaction, .. } => Some(*transaction),
        AccountEvent::AccountOpened { .. } | AccountEvent::OwnerRenamed { .. } | AccountEvent::AccountClosed {} => None,
    };
    codec::decode(&record.events).unwrap().iter().filter_map(|new| transaction(&new.event)).collect()
}

/// Law S5.
pub async fn a_batch_takes_effect_in_its_order_each_commit_for_itself(store: &impl EventStore) {
    let scribe = Scribe::new();
    let (a, b, c) = (scribe.account(), scribe.account(), scribe.account());
    let batch: [Commit; 7] = [
        scribe.commit(&[(a, 0, 2)]),
        scribe.commit(&[(a, 2, 1), (b, 0, 1)]),
        scribe.commit(&[(b, 0, 1)]),            // is stale by one commit of this batch
        scribe.commit(&[(b, 1, 1), (c, 0, 1)]), // builds on the refused one, though its versions fit
        scribe.commit(&[(c, 0, 1)]),            // builds on that
        scribe.commit(&[(b, 2, 1)]),
        scribe.commit(&[(a, 3, 1)]),
    ];
    let fates = store.append(batch.to_vec()).await;
    assert_eq!(fates.len(), batch.len());
    for (n, fate) in fates.into_iter().enumerate() {
        match n {
            2 | 3 | 5 => assert_eq!(conflict(fate), b, "commit {n}"),
            4 => assert_eq!(conflict(fate), c, "commit {n}"),
            _ => assert_eq!(fate.unwrap(), Appended::New, "commit {n}"),
        }
    }
    for (stream, head) in [(a, 4), (b, 1), (c, 0)] {
        assert_eq!(head_of(&whole_stream(store, stream).await), Version::new(head));
    }
    assert!(store.append(Vec::new()).await.is_empty(), "an empty batch has no answers");
    append_new(store, &[scribe.commit(&[(b, 1, 1), (c, 0, 1)])]).await;
}

/// Law S5, where the earlier commit wrote nothing because another one has its key.
pub async fn a_commit_that_builds_on_a_repeated_key_is_refused(store: &impl EventStore) {
    let scribe = Scribe::new();
    let (a, key) = (scribe.account(), scribe.key());
    append_new(store, &[scribe.keyed(&key, &[(a, 0, 1)])]).await;
    let batch = [scribe.keyed(&key, &[(a, 0, 1)]), scribe.commit(&[(a, 1, 1)])];
    let mut fates = store.append(batch.to_vec()).await;
    assert_eq!(conflict(fates.remove(1)), a);
    assert_eq!(head_of(&whole_stream(store, a).await), Version::new(1));
}
