//! The embedded store keeps the laws of the store, and some promises of its own.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use shared::clock::Clock;
use shared::coordinate::{Position, Revision, Version};
use shared::event::StreamAfter;
use shared::id::Ids;
use shared::sqlite::{DataFolder, OpenError};
use shared::store::contract::{self, plain_commit};
use shared::store::{Appended, ChangeFeed, EmbeddedStore, EventStore, FeedError, Registers};
use tempfile::TempDir;

fn empty_store() -> (EmbeddedStore, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    (opened(dir.path()), dir)
}

fn opened(path: &Path) -> EmbeddedStore {
    let folder = DataFolder::open(path).expect("a folder nobody else uses");
    EmbeddedStore::open(&folder).expect("a store that is empty or ours")
}

shared::store_contract!(async { empty_store() });

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_store_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    contract::what_was_acknowledged_is_there_when_the_store_is_opened_again(async || opened(dir.path())).await;
}

/// A killed process leaves its files as they are at that moment; so does a copy of them.
#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_process_was_killed() {
    let (store, dir) = empty_store();
    let ids = Ids::new(Clock::system());
    let stream = ids.account();
    for expected in 0..50 {
        let fate = store.append(vec![plain_commit(ids.commit(), &[(stream, expected)])]).await.remove(0);
        assert_eq!(fate.unwrap(), Appended::New);
        store.write_register("last", Revision::new(expected), Bytes::new()).await.unwrap();
        if expected % 10 != 3 {
            continue;
        }
        let left = tempfile::tempdir().unwrap();
        for name in ["store.db", "store.db-wal"] {
            fs::copy(dir.path().join(name), left.path().join(name)).unwrap();
        }
        let next = opened(left.path());
        let question = StreamAfter { stream, after: Version::EMPTY };
        assert_eq!(next.read_streams(&[question], 1_000).await.unwrap()[0].len() as u64, expected + 1);
        assert_eq!(next.read_register("last").await.unwrap().unwrap().revision, Revision::new(expected + 1));
        assert_eq!(next.head().await.unwrap(), Position::Number(expected + 1));
    }
}

/// Only a store that is fsynced with every transaction can tell that from a crash.
#[tokio::test]
async fn a_log_that_lost_acknowledged_commits_is_refused() {
    let (store, dir) = empty_store();
    let ids = Ids::new(Clock::system());
    for _ in 0..10 {
        store.append(vec![plain_commit(ids.commit(), &[(ids.account(), 0)])]).await.remove(0).unwrap();
    }
    let left = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join("store.db"), left.path().join("store.db")).unwrap();
    let mut log = fs::read(dir.path().join("store.db-wal")).unwrap();
    let middle = log.len() / 2;
    log[middle] ^= 1;
    fs::write(left.path().join("store.db-wal"), log).unwrap();
    let refusal = EmbeddedStore::open(&DataFolder::open(left.path()).unwrap()).unwrap_err();
    assert!(matches!(refusal, OpenError::Damaged { .. }), "{refusal}");
}

#[tokio::test]
async fn two_handles_share_one_store() {
    let (store, _dir) = empty_store();
    let other = store.clone();
    let ids = Ids::new(Clock::system());
    let mut feed = other.feed(Position::Start).await.unwrap();
    store.append(vec![plain_commit(ids.commit(), &[(ids.account(), 0)])]).await.remove(0).unwrap();
    drop(store);
    assert_eq!(feed.next_batch(10).await.unwrap().entries.len(), 1);
    drop(other);
    assert_eq!(feed.next_batch(10).await.unwrap().entries.len(), 0, "a feed keeps the store open");
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let (store, dir) = empty_store();
    assert!(matches!(DataFolder::open(dir.path()), Err(OpenError::InUse { .. })));
    drop(store);
    opened(dir.path());
}

/// A restored copy is shorter than what its readers saw.
#[tokio::test]
async fn a_position_the_store_never_reached_is_lost() {
    let (store, _dir) = empty_store();
    let ids = Ids::new(Clock::system());
    store.append(vec![plain_commit(ids.commit(), &[(ids.account(), 0)])]).await.remove(0).unwrap();
    assert!(store.feed(Position::Number(1)).await.is_ok());
    for unknown in [Position::Number(2), Position::Token("from elsewhere".into())] {
        assert!(matches!(store.feed(unknown.clone()).await, Err(FeedError::Lost(lost)) if lost == unknown));
    }
}
