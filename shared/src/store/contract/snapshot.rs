//! Law SN1.

use bytes::Bytes;

use super::fixture::Scribe;
use crate::coordinate::Version;
use crate::id::AccountId;
use crate::store::{Snapshot, Snapshots};

fn snapshot(stream: AccountId, version: u64, state: &str) -> Snapshot {
    Snapshot { stream, version: Version::new(version), schema: 3, state: Bytes::copy_from_slice(state.as_bytes()) }
}

/// In the order asked for, with `None` for streams without one.
pub async fn snapshots_are_read_back_exactly(store: &impl Snapshots) {
    let scribe = Scribe::new();
    let (a, b) = (snapshot(scribe.account(), 7, "{\"a\":1}"), snapshot(scribe.account(), 9, ""));
    store.save_snapshots(vec![a.clone(), b.clone()]).await.unwrap();
    store.save_snapshots(Vec::new()).await.unwrap();
    let loaded = store.load_snapshots(&[b.stream, scribe.account(), a.stream, b.stream]).await.unwrap();
    assert_eq!(loaded, [Some(b.clone()), None, Some(a), Some(b)]);
    assert!(store.load_snapshots(&[]).await.unwrap().is_empty());
}

/// Neither alone nor in a batch.
pub async fn an_older_snapshot_never_replaces_a_newer_one(store: &impl Snapshots) {
    let stream = Scribe::new().account();
    store.save_snapshots(vec![snapshot(stream, 5, "five"), snapshot(stream, 4, "four")]).await.unwrap();
    store.save_snapshots(vec![snapshot(stream, 3, "three")]).await.unwrap();
    assert_eq!(store.load_snapshots(&[stream]).await.unwrap(), [Some(snapshot(stream, 5, "five"))]);
    store.save_snapshots(vec![snapshot(stream, 6, "six")]).await.unwrap();
    assert_eq!(store.load_snapshots(&[stream]).await.unwrap(), [Some(snapshot(stream, 6, "six"))]);
}
