use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use mongodb::bson::{Document, RawDocument, Timestamp as ClusterTime, doc};
use mongodb::error::Error;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::document::recorded;
use super::failure::{CALL_MAX, is_feed_lost, is_refused, without_effect};
use super::read::broken;
use super::{MongoStore, settled};
use crate::coordinate::Position;
use crate::error::BackendError;
use crate::store::{ChangeFeed, FeedBatch, FeedEntry, FeedError};

/// How long the server waits for changes before it answers that it is alive.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// How many changes are asked for at once at most, whatever the caller's limit: a few megabytes.
const CHANGES_MAX: u32 = 4_000;

/// Marks a position that is a moment of the cluster; every other token is the server's own, in hexadecimal.
const MOMENT: &str = "moment:";

/// The options of a change stream for a moment to begin at and a token to begin after.
const MOMENT_FIELD: &str = "startAtOperationTime";
const TOKEN: &str = "resumeAfter";

const FEED: &str = "feed";

/// A change stream of the collection of events, read batch by batch.
///
/// The driver's own stream is not used: it decodes every change twice, and retries by itself without end while no
/// server answers. Its cursor of batches is used instead: it keeps a request in flight when a call is dropped, and
/// reports every failure; the next call then resumes after what was yielded.
pub struct MongoFeed {
    store: MongoStore,
    cursor: Place,
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
    /// A cursor, and the deadline of the request in flight.
    Open(Box<RawBatchCursor>, Option<Instant>),
}

struct Changes {
    entries: Vec<FeedEntry>,
    /// The position after all of them, and after all changes of other collections that were skipped.
    reached: Option<Position>,
}

/// The position from which a feed yields everything at and after a moment.
pub(super) fn position_at(moment: ClusterTime) -> Position {
    Position::Token(format!("{MOMENT}{}:{}", moment.time, moment.increment).into())
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
        let cursor = open(store.clone(), after.clone()).await?;
        let cursor = Place::Open(Box::new(cursor), None);
        let mut feed = Self { store: store.clone(), cursor, waiting: VecDeque::new(), arrived: after };
        feed.receive().await?;
        Ok(feed)
    }

    /// Takes the next answer of the server. A call that is dropped loses nothing.
    async fn receive(&mut self) -> Result<(), FeedError> {
        let received = self.ask().await.and_then(|batch| understand(&batch, &self.arrived));
        match received {
            Ok(Changes { entries, reached }) => {
                self.waiting.extend(entries);
                if let Some(reached) = reached {
                    self.arrived = reached;
                }
                Ok(())
            }
            Err(failure) => {
                self.cursor = Place::Closed;
                Err(failure)
            }
        }
    }

    async fn ask(&mut self) -> Result<RawBatch, FeedError> {
        loop {
            match &mut self.cursor {
                Place::Closed => self.cursor = Place::Opening(open(self.store.clone(), self.arrived.clone()).boxed()),
                Place::Opening(opening) => self.cursor = Place::Open(Box::new(opening.await?), None),
                Place::Open(cursor, until) => {
                    let until = until.get_or_insert_with(|| Instant::now() + CALL_MAX);
                    let answer = timeout_at(*until, cursor.next()).await;
                    let answer = answer.map(|next| next.unwrap_or_else(|| Err(Error::custom("the cursor has ended"))));
                    let batch = told(answer, &self.arrived)?;
                    self.cursor.answered();
                    return Ok(batch);
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

impl Place {
    /// No request is in flight any more.
    fn answered(&mut self) {
        if let Self::Open(_, until) = self {
            *until = None;
        }
    }
}

impl ChangeFeed for MongoFeed {
    async fn next_batch(&mut self, limit: usize) -> Result<FeedBatch, FeedError> {
        if self.waiting.is_empty() {
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
    if written { Err(FeedError::Lost(Position::Start)) } else { Ok(position_at(moment)) }
}

/// Opens a cursor after a position. The future owns what it needs, so that it outlives the call that began it.
async fn open(store: MongoStore, after: Position) -> Result<RawBatchCursor, FeedError> {
    let Some(begin) = beginning(&store, &after) else { return Err(FeedError::Lost(after)) };
    let is_token = begin.contains_key(TOKEN);
    match timeout(CALL_MAX, changes(&store, begin)).await {
        Ok(Err(error)) if is_token && is_refused(&error) && can_open(&store).await => {
            debug!(%error, "the server rejected a resume token");
            Err(FeedError::Lost(after))
        }
        outcome => told(outcome, &after),
    }
}

async fn changes(store: &MongoStore, begin: Document) -> Result<RawBatchCursor, Error> {
    let stages = [
        doc! { "$changeStream": begin },
        doc! { "$match": { "operationType": { "$in": ["insert", "invalidate"] } } },
        doc! { "$project": { "fullDocument": 1 } },
    ];
    store.events.aggregate(stages).batch_size(CHANGES_MAX).max_await_time(IDLE_MAX).batch().await
}

/// Whether the server opens a feed at its current moment. Servers report an unreadable token in many ways; if one opens
/// another feed, it was the token.
async fn can_open(store: &MongoStore) -> bool {
    let attempt = async {
        let (moment, _) = settled(&store.database).await.ok()?;
        changes(store, doc! { MOMENT_FIELD: moment }).await.ok()
    };
    timeout(CALL_MAX, attempt).await.is_ok_and(|opened| opened.is_some())
}

/// Where the server should begin; `None` for a position that this store did not make.
fn beginning(store: &MongoStore, after: &Position) -> Option<Document> {
    let moment = |time, increment| doc! { MOMENT_FIELD: ClusterTime { time, increment } };
    match after {
        Position::Start => Some(moment(store.start.time, store.start.increment)),
        Position::Number(_) => None,
        Position::Token(token) => match token.strip_prefix(MOMENT) {
            Some(rest) => {
                let (time, increment) = rest.split_once(':')?;
                Some(moment(time.parse().ok()?, increment.parse().ok()?))
            }
            None if token.bytes().all(|byte| byte.is_ascii_hexdigit()) => Some(doc! { TOKEN: { "_data": &**token } }),
            None => None,
        },
    }
}

fn told<T>(outcome: Result<Result<T, Error>, tokio::time::error::Elapsed>, after: &Position) -> Result<T, FeedError> {
    match outcome {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) if is_feed_lost(&error) => Err(FeedError::Lost(after.clone())),
        Ok(Err(error)) => Err(without_effect(FEED, error).into()),
        Err(late) => Err(BackendError::not_done(FEED, late).into()),
    }
}

/// Reads an answer in place: only the events are copied.
fn understand(batch: &RawBatch, after: &Position) -> Result<Changes, FeedError> {
    let strange = |error: &dyn std::fmt::Display| BackendError::not_done(FEED, error.to_string());
    let mut entries = Vec::new();
    for change in batch.doc_slices().map_err(|error| strange(&error))? {
        let change = change.map_err(|error| strange(&error))?;
        let change = change.as_document().ok_or_else(|| strange(&"a change that is no document"))?;
        match change.get_document("fullDocument") {
            Ok(inserted) => entries.push(entry(change, inserted)?),
            // The collection was dropped or renamed.
            Err(_) => return Err(FeedError::Lost(after.clone())),
        }
    }
    let answer = batch.as_raw_document().get_document("cursor").map_err(|error| strange(&error))?;
    let reached = answer.get_document("postBatchResumeToken").ok().and_then(position);
    Ok(Changes { entries, reached })
}

fn entry(change: &RawDocument, inserted: &RawDocument) -> Result<FeedEntry, BackendError> {
    let token = change.get_document("_id").ok().and_then(position);
    let position = token.ok_or_else(|| BackendError::not_done(FEED, "a change without a resume token"))?;
    let recorded = recorded(inserted).map_err(|damaged| broken(FEED, damaged))?;
    Ok(FeedEntry { position, recorded })
}

fn position(token: &RawDocument) -> Option<Position> {
    token.get_str("_data").ok().map(|data| Position::Token(data.into()))
}
