use std::collections::VecDeque;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use mongodb::bson::{Bson, Document, Timestamp as ClusterTime, doc};
use mongodb::error::Error;
use mongodb::{ClientSession, Database};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::debug;

use super::failure::{CALL_MAX, is_feed_lost, is_refused, without_effect};
use super::read::broken;
use super::schema::{EVENTS, recorded};
use super::{MongoStore, settled};
use crate::coordinate::Position;
use crate::error::BackendError;
use crate::store::{ChangeFeed, FeedBatch, FeedEntry, FeedError};

/// How long the server waits for news before it says that it is alive.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// The shortest wait there is; none at all would be the server's own choice of a wait.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The most changes asked for at once, whatever the caller's limit: a few hundred kilobytes.
const CHANGES_MAX: usize = 2_000;

/// Marks a position that is a moment of the cluster; every other token is the server's own, in hexadecimal.
const MOMENT: &str = "moment:";

/// What a change stream calls a moment and a token to begin behind.
const MOMENT_FIELD: &str = "startAtOperationTime";
const TOKEN: &str = "resumeAfter";

const FEED: &str = "feed";

/// A change stream of the events' collection, asked for batch by batch.
///
/// The driver's own stream is not used: it hides how many changes have arrived, loses an answer when a call is dropped,
/// and goes on by itself without an end while no server answers. Here a request that is under way is kept over
/// a dropped call, and every failure is told; the next call then resumes behind what was yielded.
///
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

/// A cursor of the server, and the session it was opened in.
struct OpenCursor {
    session: ClientSession,
    cursor: Cursor,
}

/// A cursor that is closed with its owner: left to itself the server keeps it for ten minutes, and reads ahead for it.
struct Cursor {
    database: Database,
    id: i64,
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let close = doc! { "killCursors": EVENTS, "cursors": [self.id] };
        let database = self.database.clone();
        // Nobody waits for it. Without a runtime, or without an answer, the server closes it when its time is over.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(Err(error)) = timeout(CALL_MAX, database.run_command(close)).await {
                    debug!(%error, "a cursor was left to the server to close");
                }
            });
        }
    }
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
        let (open, changes) = match begin(store, after.clone()).await {
            Err(FeedError::Lost(Position::Start)) => begin(store, later_start(store).await?).await?,
            begun => begun?,
        };
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
                    ask_on(self.store.clone(), open, limit, self.arrived.clone(), IDLE_MAX).boxed()
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

/// Opens a cursor behind a position and asks it once, so that a lost position is told here: whether its history still
/// holds the position the server only looks when it is asked for changes.
async fn begin(store: &MongoStore, after: Position) -> Answer {
    let (opened, _) = open(store.clone(), after.clone()).await?;
    ask_on(store.clone(), opened, CHANGES_MAX, after, AT_ONCE).await
}

/// Where a feed of everything starts when the server no longer knows the store's first moment: later, if the store was
/// still empty then. The moment is taken before the look, so what is written after the look comes behind it.
async fn later_start(store: &MongoStore) -> Result<Position, FeedError> {
    let (moment, _) = settled(&store.database).await?;
    let (_, written) = settled(&store.database).await?;
    if written { Err(FeedError::Lost(Position::Start)) } else { Ok(position_at(moment)) }
}

/// Opens a cursor behind a position. Boxed and owning, so that it outlives the call that asked.
async fn open(store: MongoStore, after: Position) -> Answer {
    let Some(begin) = beginning(&store, &after) else { return Err(FeedError::Lost(after)) };
    let is_token = begin.contains_key(TOKEN);
    match timeout(CALL_MAX, stream(&store, begin)).await {
        Ok(Err(error)) if is_token && is_refused(&error) && can_open(&store).await => {
            debug!(%error, "the server does not understand a token");
            Err(FeedError::Lost(after))
        }
        outcome => {
            let (session, reply) = told(outcome, &after)?;
            understand(&store, session, None, &reply, &after)
        }
    }
}

async fn stream(store: &MongoStore, begin: Document) -> Result<(ClientSession, Document), Error> {
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
}

/// Whether the server opens a feed at its present moment. Servers say in many ways that they cannot read a token; one
/// that opens another feed means the token.
async fn can_open(store: &MongoStore) -> bool {
    let attempt = async {
        let (moment, _) = settled(&store.database).await.ok()?;
        let (session, reply) = stream(store, doc! { MOMENT_FIELD: moment }).await.ok()?;
        understand(store, session, None, &reply, &position_at(moment)).ok()
    };
    timeout(CALL_MAX, attempt).await.is_ok_and(|opened| opened.is_some())
}

/// Asks a cursor for the changes behind what has arrived, and waits so long for one.
async fn ask_on(store: MongoStore, mut open: OpenCursor, limit: usize, arrived: Position, wait: Duration) -> Answer {
    let command = doc! {
        "getMore": open.cursor.id,
        "collection": EVENTS,
        "batchSize": i64::try_from(limit).unwrap_or(i64::MAX),
        "maxTimeMS": i64::try_from(wait.as_millis()).unwrap_or(i64::MAX),
    };
    let request = async { store.database.run_command(command).session(&mut open.session).await };
    let reply = told(timeout(CALL_MAX, request).await, &arrived)?;
    understand(&store, open.session, Some(open.cursor), &reply, &arrived)
}

/// Where the server is to begin; nothing for a position that this store did not make.
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

/// Reads the answer to a request, which opened a cursor unless it asked one.
fn understand(
    store: &MongoStore,
    session: ClientSession,
    asked: Option<Cursor>,
    reply: &Document,
    after: &Position,
) -> Answer {
    let strange = |what: &'static str| BackendError::not_done(FEED, what);
    let answer = reply.get_document("cursor").map_err(|_| strange("an answer without a cursor"))?;
    let batch = if asked.is_some() { "nextBatch" } else { "firstBatch" };
    let changes = answer.get_array(batch).map_err(|_| strange("an answer without changes"))?;
    let id = answer.get_i64("id").map_err(|_| strange("a cursor without a number"))?;
    let cursor = asked.unwrap_or_else(|| Cursor { database: store.database.clone(), id });
    let mut entries = Vec::with_capacity(changes.len());
    for change in changes {
        let change = change.as_document().ok_or_else(|| strange("a change that is no document"))?;
        match change.get_document("fullDocument") {
            Ok(inserted) => entries.push(entry(change, inserted)?),
            // The collection was dropped or renamed.
            Err(_) => return Err(FeedError::Lost(after.clone())),
        }
    }
    let reached = answer.get_document("postBatchResumeToken").ok().and_then(position);
    Ok((OpenCursor { session, cursor }, Changes { entries, reached }))
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
