//! Reads ahead for a feed that is far behind.
//!
//! Settled writes are stored by account, but a feed wants them by position: each is a look-up somewhere else in the
//! file. So a chunk of them is looked up in storage order, and while one chunk is handed out the next one is read, so
//! that a reader of a backlog does not wait for the file and then leave it idle while it works.
//!
//! The feed has no gap and no duplicate (law S3): a chunk is read in one transaction, holds all positions from the one
//! it begins at (law G1), and begins after the last position of the previous chunk. It ends at the position that was
//! settled when it was begun, or earlier; later writes are in memory, or in the file for the next chunk.
//!
//! At most two chunks are in memory: the rest of the one being handed out, and the next one, complete or still being
//! read. A call that is dropped while it waits loses nothing, since the read in progress is kept here and entries leave
//! in the step that answers. When the `Ahead` is dropped, the read in progress ends at its next row.

use std::collections::VecDeque;

use super::read;
use crate::error::BackendError;
use crate::sqlite::{Database, Reading};
use crate::store::FeedEntry;

/// The chunk that is handed out, and the next one.
pub(super) struct Ahead {
    // Dropped before the database, whose closing waits for reads.
    coming: Option<Reading<Vec<FeedEntry>>>,
    /// Entries read but not handed out yet.
    ready: VecDeque<FeedEntry>,
    chunk_max: usize,
    database: Database,
}

impl Ahead {
    /// Begins empty; reads chunks of at most `chunk_max` writes.
    pub(super) const fn new(database: Database, chunk_max: usize) -> Self {
        Self { coming: None, ready: VecDeque::new(), chunk_max, database }
    }

    /// The next settled writes, at most `limit`: those after position `after`, which was the last one handed out. A
    /// failure leaves everything as if the chunk had not been begun.
    pub(super) async fn next(
        &mut self,
        after: u64,
        settled: u64,
        limit: usize,
    ) -> Result<Vec<FeedEntry>, BackendError> {
        if self.ready.is_empty() {
            self.begin(after, settled);
            self.ready = self.arrived().await?.into();
        }
        self.begin(after + self.ready.len() as u64, settled);
        Ok(self.ready.drain(..limit.min(self.ready.len())).collect())
    }

    /// Begins to read the chunk after a position, unless one is being read or nothing after it is settled.
    fn begin(&mut self, after: u64, settled: u64) {
        if self.coming.is_some() || after >= settled {
            return;
        }
        let chunk_max = self.chunk_max;
        self.coming = Some(self.database.begin_read("next_batch", move |connection, wanted| {
            read::fed(connection, after, chunk_max, settled, || wanted.check())
        }));
    }

    async fn arrived(&mut self) -> Result<Vec<FeedEntry>, BackendError> {
        let Some(coming) = &mut self.coming else { return Ok(Vec::new()) };
        let read = coming.done().await;
        self.coming = None;
        read
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use bytes::Bytes;
    use futures::poll;
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::super::tests::empty_store;
    use super::super::{EmbeddedFeed, EmbeddedStore};
    use crate::clock::{Clock, Timestamp};
    use crate::coordinate::{Position, Version};
    use crate::event::{EncodedEvents, Recorded};
    use crate::id::{AccountId, Ids};
    use crate::sqlite::DataFolder;
    use crate::store::{Appended, ChangeFeed, Commit, EventStore, FeedEntry, FeedError, StreamWrite};

    /// Twenty chunks, the last two of which are in memory.
    const BACKLOG: usize = 100;

    /// A store whose accounts are written to in turn, and everything appended to it.
    struct Backlog {
        store: EmbeddedStore,
        dir: TempDir,
        ids: Ids,
        accounts: Vec<AccountId>,
        records: Vec<Recorded>,
    }

    impl Backlog {
        async fn new() -> Self {
            let (store, dir) = empty_store();
            let ids = Ids::new(Clock::system());
            let accounts = (0..7).map(|_| ids.account()).collect();
            let mut backlog = Self { store, dir, ids, accounts, records: Vec::new() };
            while backlog.records.len() < BACKLOG {
                backlog.append().await;
            }
            backlog
        }

        async fn append(&mut self) {
            let n = self.records.len();
            let stream = self.accounts[n % self.accounts.len()];
            let expected = Version::new((n / self.accounts.len()) as u64);
            let events = EncodedEvents { count: 1, json: Bytes::from(format!("[{n}]")) };
            let (first_version, time) = (expected.next(), Timestamp::EPOCH);
            self.records.push(Recorded { stream, first_version, time, events: events.clone() });
            let writes = vec![StreamWrite { stream, expected, events }];
            let commit = Commit { id: self.ids.commit(), time, key: None, receipt: Bytes::new(), writes };
            assert_eq!(self.store.append(vec![commit]).await.remove(0).unwrap(), Appended::New);
        }

        async fn feed(&self) -> EmbeddedFeed {
            self.store.feed(Position::Start).await.unwrap()
        }

        fn assert_yielded_once_in_order(&self, entries: &[FeedEntry]) {
            let positions = entries.iter().map(|entry| &entry.position);
            assert!(positions.eq(&(1..=self.records.len() as u64).map(Position::Number).collect::<Vec<_>>()));
            assert!(entries.iter().map(|entry| &entry.recorded).eq(&self.records));
        }

        async fn rename(&self, statement: &'static str) {
            let rename = move |connection: &Connection| connection.execute(statement, []).map(drop);
            self.store.database.write("rename", rename).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_backlog_is_yielded_once_and_in_order_while_more_is_appended_and_settled() {
        for limit in [1, 3, 5, 7, 1_000] {
            let mut backlog = Backlog::new().await;
            let mut feed = backlog.feed().await;
            let mut entries = Vec::new();
            while entries.len() < backlog.records.len() {
                if backlog.records.len() < 2 * BACKLOG {
                    backlog.append().await;
                }
                let batch = feed.next_batch(limit).await.unwrap();
                assert!(batch.entries.len() <= limit, "{} entries", batch.entries.len());
                assert_eq!(Some(&batch.reached), batch.entries.last().map(|entry| &entry.position));
                entries.extend(batch.entries);
            }
            backlog.assert_yielded_once_in_order(&entries);
        }
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_while_a_chunk_is_read_loses_nothing() {
        let backlog = Backlog::new().await;
        let mut feed = backlog.feed().await;
        let (mut entries, mut dropped) = (Vec::new(), 0);
        while entries.len() < backlog.records.len() {
            let polled = poll!(pin!(feed.next_batch(3)));
            match polled {
                Poll::Ready(batch) => entries.extend(batch.unwrap().entries),
                Poll::Pending => {
                    dropped += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(dropped > 0, "some calls were dropped");
        backlog.assert_yielded_once_in_order(&entries);
    }

    #[tokio::test]
    async fn a_chunk_that_cannot_be_read_is_told_of_once_and_read_again() {
        const AWAY: &str = "ALTER TABLE positions RENAME TO elsewhere";
        const BACK: &str = "ALTER TABLE elsewhere RENAME TO positions";
        let backlog = Backlog::new().await;
        let mut feed = backlog.feed().await;
        let mut entries = Vec::new();
        for yielded in [0, 3, 23] {
            while entries.len() < yielded {
                entries.extend(feed.next_batch(1).await.unwrap().entries);
            }
            backlog.rename(AWAY).await;
            // Entries read before come first.
            let failure = loop {
                match feed.next_batch(1).await {
                    Ok(batch) => entries.extend(batch.entries),
                    Err(failure) => break failure,
                }
                assert!(entries.len() < BACKLOG, "nothing failed");
            };
            assert!(matches!(failure, FeedError::Backend(_)), "{failure}");
            backlog.rename(BACK).await;
        }
        while entries.len() < backlog.records.len() {
            entries.extend(feed.next_batch(1).await.unwrap().entries);
        }
        backlog.assert_yielded_once_in_order(&entries);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_store_is_closed_at_once_when_its_feed_was_dropped_with_a_chunk_under_way() {
        for _ in 0..10 {
            let Backlog { store, dir, .. } = Backlog::new().await;
            let mut feed = store.feed(Position::Start).await.unwrap();
            feed.next_batch(1).await.unwrap();
            drop((feed, store));
            DataFolder::open(dir.path()).expect("nobody has it any more");
            let log = std::fs::metadata(dir.path().join("store.db-wal"));
            assert_eq!(log.map_or(0, |log| log.len()), 0, "the log was moved into the file");
        }
    }
}
