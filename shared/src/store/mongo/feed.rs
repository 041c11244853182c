use std::collections::VecDeque;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, Timestamp as ClusterTime, doc};
use mongodb::error::Error;
use tokio::time::timeout;

use super::MongoStore;
use super::failure::{CALL_MAX, is_feed_lost, without_effect};
use super::read::broken;
use super::schema::{EVENTS, recorded};
use crate::coordinate::Position;
use crate::error::BackendError;
use crate::store::{ChangeFeed, FeedBatch, FeedEntry, FeedError};

/// How long the server waits for news before it says that it is alive.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// The most changes asked for at once, whatever the caller's limit: a few hundred kilobytes.
const CHANGES_MAX: usize = 2_000;

/// Marks a position that is a moment of the cluster; every other token is the server's own, in hexadecimal.
const MOMENT: &str = "moment:";

const FEED: &str = "feed";

/// A change stream of the events' collection, asked for batch by batch.
///
/// The driver's own stream is not used: it hides how many changes have arrived, loses an answer when a call is dropped,
/// and goes on by itself without an end while no server answers. Here a request that is under way is kept over
/// a dropped call, and every failure is told; the next call then resumes behind what was yielded.
///
/// A feed that is dropped leaves its cursor to the server, which closes it after ten minutes.
pub struct MongoFeed {
    store: MongoStore,
    /// The request that is under way.
    asked: Option<BoxFuture<'static, Answer>>,
    /// Where to ask on; none before the first request and after a failure.
    open: Option<OpenCursor>,
    /// What arrived and was not yielded yet.
    waiting: VecDeque<FeedEntry>,
    /// Behind everything that arrived.
    arrived: Position,
}

/// A cursor of the server; it belongs to the session it was opened in.
struct OpenCursor {
    session: ClientSession,
    id: i64,
}

/// What a request came to.
type Answer = Result<(OpenCursor, Changes), FeedError>;

struct Changes {
    entries: Vec<FeedEntry>,
    /// Behind all of them, and behind everything of other collections that was passed over.
    reached: Option<Position>,
}

/// The position from which everything is seen that comes after a moment, and what came at it.
pub(super) fn position_at(moment: ClusterTime) -> Position {
    Position::Token(format!("{MOMENT}{}:{}", moment.time, moment.increment).into())
}

impl MongoFeed {
    pub(super) async fn open(store: &MongoStore, after: Position) -> Result<Self, FeedError> {
        // At once, so that a lost position is told here.
        let (open, changes) = open(store.clone(), after.clone()).await?;
        Ok(Self {
            store: store.clone(),
            asked: None,
            open: Some(open),
            arrived: changes.reached.unwrap_or(after),
            waiting: changes.entries.into(),
        })
    }

    /// Yields from what has arrived.
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
            let request = match (self.asked.take(), self.open.take()) {
                (Some(under_way), _) => under_way,
                (None, Some(open)) => {
                    let limit = limit.clamp(1, CHANGES_MAX);
                    ask_on(self.store.clone(), open, limit, self.arrived.clone()).boxed()
                }
                (None, None) => open(self.store.clone(), self.arrived.clone()).boxed(),
            };
            let answer = self.asked.insert(request).await;
            self.asked = None;
            let (open, changes) = answer.inspect_err(|_| self.open = None)?;
            self.open = Some(open);
            if let Some(reached) = changes.reached {
                self.arrived = reached;
            }
            self.waiting.extend(changes.entries);
        }
        Ok(self.batch(limit))
    }
}

/// Opens a cursor behind a position. Boxed and owning, so that it outlives the call that asked.
async fn open(store: MongoStore, after: Position) -> Answer {
    let Some(begin) = beginning(&store, &after) else { return Err(FeedError::Lost(after)) };
    let request = async {
        let mut session = store.client.start_session().causal_consistency(false).await?;
        let command = doc! {
            "aggregate": EVENTS,
            "pipeline": [
                { "$changeStream": begin },
                { "$match": { "operationType": { "$in": ["insert", "invalidate"] } } },
                { "$project": { "fullDocument": 1 } },
            ],
            "cursor": { "batchSize": 0 },
            "readConcern": { "level": "majority" },
        };
        let reply = store.database.run_command(command).session(&mut session).await?;
        Ok((session, reply))
    };
    let (session, reply) = told(timeout(CALL_MAX, request).await, &after)?;
    understand(session, &reply, "firstBatch", &after)
}

/// Asks a cursor for the changes behind what has arrived; waits for one for [`IDLE_MAX`].
async fn ask_on(store: MongoStore, mut open: OpenCursor, limit: usize, arrived: Position) -> Answer {
    let command = doc! {
        "getMore": open.id,
        "collection": EVENTS,
        "batchSize": i64::try_from(limit).unwrap_or(i64::MAX),
        "maxTimeMS": i64::try_from(IDLE_MAX.as_millis()).unwrap_or(i64::MAX),
    };
    let request = async { store.database.run_command(command).session(&mut open.session).await };
    let reply = told(timeout(CALL_MAX, request).await, &arrived)?;
    understand(open.session, &reply, "nextBatch", &arrived)
}

/// Where the server is to begin; nothing for a position that this store did not make.
fn beginning(store: &MongoStore, after: &Position) -> Option<Document> {
    let moment = |time, increment| doc! { "startAtOperationTime": ClusterTime { time, increment } };
    match after {
        Position::Start => Some(moment(store.start.time, store.start.increment)),
        Position::Number(_) => None,
        Position::Token(token) => match token.strip_prefix(MOMENT) {
            Some(rest) => {
                let (time, increment) = rest.split_once(':')?;
                Some(moment(time.parse().ok()?, increment.parse().ok()?))
            }
            None if token.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Some(doc! { "resumeAfter": { "_data": &**token } })
            }
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

fn understand(session: ClientSession, reply: &Document, batch: &str, after: &Position) -> Answer {
    let strange = |what: &'static str| BackendError::not_done(FEED, what);
    let cursor = reply.get_document("cursor").map_err(|_| strange("an answer without a cursor"))?;
    let changes = cursor.get_array(batch).map_err(|_| strange("an answer without changes"))?;
    let id = cursor.get_i64("id").map_err(|_| strange("a cursor without a number"))?;
    let mut entries = Vec::with_capacity(changes.len());
    for change in changes {
        let change = change.as_document().ok_or_else(|| strange("a change that is no document"))?;
        match change.get_document("fullDocument") {
            Ok(inserted) => entries.push(entry(change, inserted)?),
            // The collection was dropped or renamed.
            Err(_) => return Err(FeedError::Lost(after.clone())),
        }
    }
    let reached = cursor.get_document("postBatchResumeToken").ok().and_then(position);
    Ok((OpenCursor { session, id }, Changes { entries, reached }))
}

fn entry(change: &Document, inserted: &Document) -> Result<FeedEntry, BackendError> {
    let token = change.get_document("_id").ok().and_then(position);
    let position = token.ok_or_else(|| BackendError::not_done(FEED, "a change without a resume token"))?;
    let recorded = recorded(inserted).map_err(|damaged| broken(FEED, damaged))?;
    Ok(FeedEntry { position, recorded })
}

fn position(token: &Document) -> Option<Position> {
    token.get("_data").and_then(Bson::as_str).map(|data| Position::Token(data.into()))
}
