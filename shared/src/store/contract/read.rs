//! What the read calls of the store promise beyond the laws.

use bytes::Bytes;

use super::fixture::{Scribe, append_new, head_of, traces, whole_stream};
use crate::coordinate::Version;
use crate::event::{EncodedEvents, StreamAfter};
use crate::store::{Commit, EventStore, StoredCommit};

fn stored(commit: &Commit) -> StoredCommit {
    let Commit { id, time, key, receipt, .. } = commit.clone();
    StoredCommit { id, time, key, receipt }
}

/// To the byte and the microsecond, small and large.
pub async fn what_was_written_is_read_back_exactly(store: &impl EventStore) {
    let scribe = Scribe::new();
    let (a, b) = (scribe.account(), scribe.account());
    let small = Commit { receipt: Bytes::new(), ..scribe.commit(&[(a, 0, 1)]) };
    let mut large = scribe.keyed(&scribe.key(), &[(a, 1, 1), (b, 0, 2_000)]);
    // Opaque to the store: odd spacing and letters outside ASCII come back as they were.
    large.writes[0].events = EncodedEvents { count: 1, json: Bytes::from(" [ {\"owner\" : \"Zoë 🏦\"} ]\n") };
    append_new(store, &[small.clone(), large.clone()]).await;
    let expected = [traces(&small), traces(&large)].concat();
    assert!([whole_stream(store, a).await, whole_stream(store, b).await].concat() == expected);
    assert_eq!(store.find_commits(&[small.id, large.id]).await.unwrap(), [Some(stored(&small)), Some(stored(&large))]);
}

/// Even when a question is asked twice or has no answer.
pub async fn answers_stand_in_the_order_of_the_questions(store: &impl EventStore) {
    let scribe = Scribe::new();
    let accounts = scribe.accounts(3);
    let keys = [scribe.key(), scribe.key(), scribe.key()];
    let commits: Vec<Commit> =
        accounts.iter().zip(&keys).map(|(account, key)| scribe.keyed(key, &[(*account, 0, 1)])).collect();
    append_new(store, &commits).await;

    let ids = [commits[2].id, scribe.commit_id(), commits[0].id, commits[2].id];
    let expected = [2, 3, 0, 2].map(|n| commits.get(n).map(stored));
    assert_eq!(store.find_commits(&ids).await.unwrap(), expected);
    let asked = [keys[2].clone(), scribe.key(), keys[0].clone(), keys[2].clone()];
    assert_eq!(store.find_keys(&asked).await.unwrap(), expected);
    let streams = [accounts[2], scribe.account(), accounts[0], accounts[2]];
    let questions = streams.map(|stream| StreamAfter { stream, after: Version::EMPTY });
    let expected = [traces(&commits[2]), Vec::new(), traces(&commits[0]), traces(&commits[2])];
    assert_eq!(store.read_streams(&questions, 10).await.unwrap(), expected);

    assert!(store.find_commits(&[]).await.unwrap().is_empty());
    assert!(store.find_keys(&[]).await.unwrap().is_empty());
    assert!(store.read_streams(&[], 10).await.unwrap().is_empty());
}

/// A reader that continues where a page ended sees every write once.
pub async fn reading_on_begins_behind_what_the_reader_has_and_stops_at_the_limit(store: &impl EventStore) {
    let scribe = Scribe::new();
    let stream = scribe.account();
    let commits: Vec<Commit> = (0..10).map(|n| scribe.commit(&[(stream, n * 3, 3)])).collect();
    append_new(store, &commits).await;
    let whole = whole_stream(store, stream).await;
    assert_eq!(whole.len(), 10);
    for limit in [1, 3, 4, 7, 30, 1_000] {
        let mut read = Vec::new();
        loop {
            let question = StreamAfter { stream, after: head_of(&read) };
            let page = store.read_streams(&[question], limit).await.unwrap().remove(0);
            let events = page.iter().map(|record| record.events.count as usize).sum::<usize>();
            let rest = 30 - read.len() * 3;
            assert!(events >= limit.min(rest), "a page of {events} events, of {rest} that are left, limit {limit}");
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        assert!(read == whole, "limit {limit}");
    }
}
