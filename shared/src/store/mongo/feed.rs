//! The feed: a change stream of the events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use mongodb::bson::{Document, RawDocument, doc};
use mongodb::error::Error;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::document::recorded;
use super::failure::{CALL_MAX, is_feed_lost, is_refused, without_effect};
use super::position::{CollectionId, MOMENT_FIELD, TOKEN};
use super::read::broken;
use super::search::{Wait, new_name};
use super::{MongoStore, settled};
use crate::coordinate::Position;
use crate::error::BackendError;
use crate::store::{ChangeFeed, FeedBatch, FeedEntry, FeedError};

/// How long the server waits for changes before it answers that it is alive.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// How many changes are asked for at once at most, whatever the caller's limit: a few megabytes.
const CHANGES_MAX: u32 = 4_000;

/// The port's verb in failures of a feed.
pub(super) const FEED: &str = "feed";

/// A change stream of the collection of events, read batch by batch.
///
/// The driver's own stream is not used: it decodes every change twice, and retries by itself without end while no
/// server answers. Its cursor of batches is used instead: it keeps a request in flight when a call is dropped, and
/// reports every failure; the next call then resumes after what was yielded.
///
/// The server may have to search its oplog for minutes before it answers. To open a feed is to wait for that, as long
/// as the server is at work on it. To read from one is not: a call returns without an entry after some seconds, and the
/// next one goes on waiting.
///
/// A cursor stays with the member that opened it, also when another one is the primary. The feed follows the primary:
/// it closes such a cursor and opens another one after what arrived ([`super::primary`]).
pub struct MongoFeed {
    store: MongoStore,
    /// What the server lists the requests of this feed by.
    name: Arc<str>,
    cursor: Place,
    /// When the cursor was asked for.
    asked: Instant,
    /// The wait for the answer to the request in flight.
    wait: Option<Wait>,
    /// Entries that arrived but were not yielded yet.
    waiting: VecDeque<FeedEntry>,
    /// The position after everything that arrived.
    arrived: Position,
}

/// Where the next changes come from.
enum Place {
    /// Nowhere yet: before the first request and after a failure.
    Closed,
    /// A cursor that is being opened.
    Opening(BoxFuture<'static, Result<RawBatchCursor, FeedError>>),
    /// A cursor, with the request in flight if there is one.
    Open(Box<RawBatchCursor>),
}

struct Changes {
    entries: Vec<FeedEntry>,
    /// The position after all of them, and after all changes of other collections that were skipped.
    reached: Option<Position>,
}

impl MongoFeed {
    pub(super) async fn open(store: &MongoStore, after: Position) -> Result<Self, FeedError> {
        match Self::begin(store, after).await {
            Err(FeedError::Lost(Position::Start)) => Self::begin(store, later_start(store).await?).await,
            begun => begun,
        }
    }

    /// Opens a cursor after a position and takes its first answer, so that a lost position is reported here.
    async fn begin(store: &MongoStore, after: Position) -> Result<Self, FeedError> {
        let mut feed = Self {
            store: store.clone(),
            name: new_name(),
            cursor: Place::Closed,
            asked: Instant::now(),
            wait: None,
            waiting: VecDeque::new(),
            arrived: after,
        };
        while !feed.receive().await? {}
        Ok(feed)
    }

    /// Takes the next answer of the server; `false` if the server is still looking for it. A call that is dropped loses
    /// nothing.
    async fn receive(&mut self) -> Result<bool, FeedError> {
        self.leave_former_primary();
        let received = match self.ask().await {
            Ok(None) => return Ok(false),
            Ok(Some(batch)) => understand(&batch, self.store.collection, &self.arrived),
            Err(failure) => Err(failure),
        };
        self.wait = None;
        match received {
            Ok(Changes { entries, reached }) => {
                self.waiting.extend(entries);
                if let Some(reached) = reached {
                    self.arrived = reached;
                }
                Ok(true)
            }
            Err(failure) => {
                self.cursor = Place::Closed;
                Err(failure)
            }
        }
    }

    /// Closes a cursor that may be at a former primary.
    fn leave_former_primary(&mut self) {
        if self.store.primary.has_changed_since(self.asked) {
            info!("another member is the primary, the feed goes on there");
            self.cursor = Place::Closed;
            self.wait = None;
        }
    }

    /// The next answer; `None` if it is overdue and the server is at work on it, which it may be for a limited time.
    async fn ask(&mut self) -> Result<Option<RawBatch>, FeedError> {
        let wait = *self.wait.get_or_insert_with(Wait::begun);
        let overdue = wait.overdue(self.store.client.clone(), Arc::clone(&self.name), self.store.search_max);
        tokio::select! {
            biased;
            batch = self.answer() => batch.map(Some),
            rest = overdue => {
                let lost = || FeedError::Lost(self.arrived.clone());
                self.wait = Some(rest?.ok_or_else(lost)?);
                Ok(None)
            }
        }
    }

    /// The next answer, however long it takes. The request stays in flight when this is dropped.
    async fn answer(&mut self) -> Result<RawBatch, FeedError> {
        loop {
            match &mut self.cursor {
                Place::Closed => {
                    self.asked = Instant::now();
                    let opening = open(self.store.clone(), self.arrived.clone(), Arc::clone(&self.name));
                    self.cursor = Place::Opening(opening.boxed());
                }
                Place::Opening(opening) => self.cursor = Place::Open(Box::new(opening.await?)),
                Place::Open(cursor) => {
                    let next = cursor.next().await;
                    let next = next.unwrap_or_else(|| Err(Error::custom("the cursor has ended")));
                    return told(next, &self.arrived);
                }
            }
        }
    }

    /// Yields entries that have arrived.
    fn batch(&mut self, limit: usize) -> FeedBatch {
        let entries: Vec<FeedEntry> = self.waiting.drain(..limit.min(self.waiting.len())).collect();
        let behind_last = entries.last().map(|entry| entry.position.clone());
        let reached = match behind_last {
            Some(position) if !self.waiting.is_empty() => position,
            Some(_) | None => self.arrived.clone(),
        };
        FeedBatch { entries, reached }
    }
}

impl ChangeFeed for MongoFeed {
    async fn next_batch(&mut self, limit: usize) -> Result<FeedBatch, FeedError> {
        if self.waiting.is_empty() {
            // If nothing came, the server is at work: that is a sign of life too.
            self.receive().await?;
        }
        Ok(self.batch(limit))
    }
}

/// Where a feed of everything starts when the server no longer knows the store's first moment: at a later one, if the
/// store is still empty. The moment is taken before the look, so what is written after the look comes after it.
async fn later_start(store: &MongoStore) -> Result<Position, FeedError> {
    let (moment, _) = settled(&store.database).await?;
    let (_, written) = settled(&store.database).await?;
    if written { Err(FeedError::Lost(Position::Start)) } else { Ok(store.collection.position_at(moment)) }
}

/// Opens a cursor after a position. The future owns what it needs, so that it outlives the call that began it.
async fn open(store: MongoStore, after: Position, name: Arc<str>) -> Result<RawBatchCursor, FeedError> {
    let Some(begin) = store.collection.beginning(&after, store.start) else { return Err(FeedError::Lost(after)) };
    let is_token = begin.contains_key(TOKEN);
    match changes(&store, begin, &name).await {
        Err(error) if is_token && is_refused(&error) && can_open(&store, &name).await => {
            debug!(%error, "the server rejected a resume token");
            Err(FeedError::Lost(after))
        }
        outcome => told(outcome, &after),
    }
}

/// The cursor passes the name on to each of its requests.
async fn changes(store: &MongoStore, begin: Document, name: &str) -> Result<RawBatchCursor, Error> {
    let stages = [
        doc! { "$changeStream": begin },
        doc! { "$match": { "operationType": { "$in": ["insert", "invalidate"] } } },
        doc! { "$project": { "fullDocument": 1 } },
    ];
    store.events.aggregate(stages).batch_size(CHANGES_MAX).max_await_time(IDLE_MAX).comment(name).batch().await
}

/// Whether the server opens a feed at its current moment. Servers report an unreadable token in many ways; if one opens
/// another feed, it was the token.
async fn can_open(store: &MongoStore, name: &str) -> bool {
    let attempt = async {
        let (moment, _) = settled(&store.database).await.ok()?;
        changes(store, doc! { MOMENT_FIELD: moment }, name).await.ok()
    };
    timeout(CALL_MAX, attempt).await.is_ok_and(|opened| opened.is_some())
}

fn told<T>(outcome: Result<T, Error>, after: &Position) -> Result<T, FeedError> {
    outcome.map_err(|error| {
        if is_feed_lost(&error) { FeedError::Lost(after.clone()) } else { without_effect(FEED, error).into() }
    })
}

/// Reads an answer in place: only the events are copied.
fn understand(batch: &RawBatch, collection: CollectionId, after: &Position) -> Result<Changes, FeedError> {
    let strange = |error: &dyn std::fmt::Display| BackendError::not_done(FEED, error.to_string());
    let mut entries = Vec::new();
    for change in batch.doc_slices().map_err(|error| strange(&error))? {
        let change = change.map_err(|error| strange(&error))?;
        let change = change.as_document().ok_or_else(|| strange(&"a change that is no document"))?;
        match change.get_document("fullDocument") {
            Ok(inserted) => entries.push(entry(change, inserted, collection)?),
            // The collection was dropped or renamed.
            Err(_) => return Err(FeedError::Lost(after.clone())),
        }
    }
    let answer = batch.as_raw_document().get_document("cursor").map_err(|error| strange(&error))?;
    let reached = answer.get_document("postBatchResumeToken").ok();
    let reached = reached.and_then(|token| collection.position_after(token));
    Ok(Changes { entries, reached })
}

fn entry(change: &RawDocument, inserted: &RawDocument, collection: CollectionId) -> Result<FeedEntry, BackendError> {
    let position = change.get_document("_id").ok().and_then(|token| collection.position_after(token));
    let position = position.ok_or_else(|| BackendError::not_done(FEED, "a change without a resume token"))?;
    let recorded = recorded(inserted).map_err(|damaged| broken(FEED, damaged))?;
    Ok(FeedEntry { position, recorded })
}
