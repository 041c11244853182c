//! Laws S7 and R3, as far as they can be tested without a power cut.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::fixture::{Scribe, append_new, append_one, assert_before, head_of, traces, whole_scan, whole_stream};
use crate::coordinate::{Position, Revision};
use crate::event::Recorded;
use crate::partition::SlotRange;
use crate::store::{ChangeFeed, Commit, Store, WriteError};

/// `open` opens the same data each time, empty at first. The store is dropped before it is opened again.
pub async fn what_was_acknowledged_is_there_when_the_store_is_opened_again<S: Store>(open: impl AsyncFn() -> S) {
    let scribe = Scribe::new();
    let accounts = scribe.accounts(3);
    let mut commits: Vec<Commit> = Vec::new();
    let mut reached: Option<(Position, usize)> = None;
    let mut revision = Revision::ABSENT;
    for round in 0..3 {
        let store = open().await;
        let records: Vec<Recorded> = commits.iter().flat_map(traces).collect();
        assert_eq!(whole_scan(&store, SlotRange::ALL, 10).await.len(), records.len());
        for first in &commits {
            assert_before(append_one(&store, first).await, first);
        }
        if let Some((position, known)) = reached {
            let mut feed = store.feed(position).await.unwrap();
            let mut missing: BTreeMap<_, _> =
                records[known..].iter().map(|record| ((record.stream, record.first_version), record)).collect();
            while !missing.is_empty() {
                for entry in feed.next_batch(100).await.unwrap().entries {
                    missing.remove(&(entry.recorded.stream, entry.recorded.first_version));
                }
            }
            let stale = store.write_register("round", Revision::ABSENT, Bytes::new()).await;
            assert!(matches!(stale, Err(WriteError::Moved { actual, .. }) if actual == revision));
        }
        reached = Some((store.head().await.unwrap(), records.len()));
        for account in &accounts {
            let head = head_of(&whole_stream(&store, *account).await).get();
            assert_eq!(head, 2 * round);
            let commit = scribe.keyed(&scribe.key(), &[(*account, head, 2)]);
            append_new(&store, std::slice::from_ref(&commit)).await;
            commits.push(commit);
        }
        revision = store.write_register("round", revision, Bytes::from(round.to_string())).await.unwrap();
    }
}
