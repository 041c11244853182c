//! The store in MongoDB: a replica set, version 6.0 or newer.
//!
//! Collection `events` has one document for each write of a commit to a stream. Its `_id` is slot, stream and first
//! version in binary, and the collection is clustered by it: one order serves scans, reads of a stream and the
//! optimistic lock (laws S2, S6). The document of a commit's first write also keeps the commit's id, receipt and key,
//! for ever; `commit_unique` and `key_unique` are the secondary indexes (law S4).
//!
//! A batch is judged in memory, and the commits taken are inserted by one ordered command, acknowledged by a majority
//! and its journals (law S7; [ADR 13](../../../../docs/adr/0013-a-batch-is-one-insert.md)). A commit to one stream is
//! one document, so it is there whole or not at all (law S1). The command ends at the first document whose place, id or
//! key is taken; the documents before it are written, and only the rest is judged again, on what is then true. So
//! nothing is written after a commit of its stream that was not (laws S2, S5). A batch in which a commit writes to
//! several streams is a transaction, all or nothing.
//!
//! Why there is no gap (law S2), although heads are looked up beforehand: once a majority has a write that ends at
//! version v, this stays true for ever, since nothing is removed. If the expected version v is such an end, the insert
//! at v + 1 either takes the place or collides with the write that is there. So ends may be kept in memory
//! ([`ENDS_KEPT`] of them), and most appends need no look-up. Everything is read from the primary with read concern
//! majority, so a refusal is correct and every acknowledged write is seen. One exception: a primary that is cut off
//! from its majority answers from its old state until it steps down, so a read or a refusal there may be as old as an
//! election takes. An append there is safe: no majority acknowledges it, and its place is unique.
//!
//! Why a late attempt does no harm (law S4): its command begins with the same documents in the same order as the
//! attempt that was answered. If that one or another writer has written the first of them, the late one ends there.
//!
//! Why the feed skips nothing (law S3): a change stream follows the oplog, which has a command's inserts in their
//! order, and those of a transaction at its commit. The head is a moment up to which a majority has everything, so what
//! is not read at it comes after it. The server may search its oplog for minutes; the feed waits for that ([`search`]).
//! When another member becomes the primary, the feed goes on there ([`primary`]). A position from before the collection
//! was dropped or restored is lost ([`position`]).
//!
//! A process that dies leaves its transaction, and the places it holds, to the server; a process blocked by it ends it
//! ([`abandoned`]).
//!
//! After a backup is restored under running processes, they remember ends that are gone: restart them.

mod abandoned;
mod append;
mod begin;
mod document;
mod durability;
mod failure;
mod feed;
mod insert;
mod judge;
mod operations;
mod position;
mod primary;
mod read;
mod register;
mod schema;
mod search;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, Timestamp as ClusterTime, doc};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadConcernLevel, SelectionCriteria, Tls, WriteConcern,
};
use mongodb::{Client, Collection, Database};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

pub use feed::MongoFeed;
use position::CollectionId;
use primary::Primary;

use super::{
    AppendError, Appended, Commit, EventStore, FeedError, IdempotencyKey, SERVER_FOUND_WITHIN, ScanPage, StoredCommit,
};
use crate::config::TlsAuthorities;
use crate::coordinate::{Position, Version};
use crate::error::BackendError;
use crate::event::{Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::SlotRange;

/// The maximum number of connections of one process: writers with a batch in flight, readers and feeds together.
const CONNECTIONS_MAX: u32 = 32;

/// How long a connection may take to open.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How many stream ends are remembered, as many as the account service caches accounts; about 50 bytes each.
const ENDS_KEPT: usize = 840_000;

/// Why the store cannot be opened; nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum MongoOpenError {
    /// Not a MongoDB URL. It is not quoted, since it may hold a password.
    #[error("invalid MongoDB URL: {0}")]
    Url(Box<str>),
    /// The URL asks for less than the store promises.
    #[error("the MongoDB URL weakens durability: leave {0} out, the bank itself asks for majority and journal")]
    Weakened(&'static str),
    /// The URL names a database other than the namespace's.
    #[error(
        "the MongoDB URL names the database {named}, but the bank uses {database}, named after its namespace: leave \
         /{named} out of the URL (with authSource={named} if the user is defined there), or start with --namespace"
    )]
    Database {
        /// The database in the URL.
        named: Box<str>,
        /// The database the bank uses.
        database: Box<str>,
    },
    /// A single server has neither transactions nor change streams.
    #[error(
        "MongoDB must run as a replica set, even with a single member: start mongod with --replSet rs0, and run \
         rs.initiate() once in mongosh"
    )]
    NotReplicated,
    /// Another release's layout.
    #[error("database {database} has layout {found}, unknown to this release: start the one that wrote it")]
    Layout {
        /// The database.
        database: Box<str>,
        /// Its layout's number.
        found: i32,
    },
    /// The server does not answer, or refuses.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// The store of a bank on MongoDB. Clones share its connections.
#[derive(Clone, Debug)]
pub struct MongoStore {
    client: Client,
    database: Database,
    events: Collection<Document>,
    /// Which collection these are, as the store was opened.
    collection: CollectionId,
    /// For each stream, the latest version seen at which a write ends.
    ends: Arc<Cache<AccountId, Version>>,
    /// A moment before the first commit.
    start: ClusterTime,
    /// The name by which the server knows this bank's connections.
    application: Arc<str>,
    primary: Primary,
    /// How long the server may look for what follows a feed's position.
    search_max: Duration,
}

impl MongoStore {
    /// Opens the store in this database, and creates what is missing in it. `authorities` replace the public
    /// certificate authorities.
    ///
    /// # Errors
    /// [`MongoOpenError`] says what is wrong and what to do about it.
    pub async fn open(url: &str, database: &str, authorities: Option<&TlsAuthorities>) -> Result<Self, MongoOpenError> {
        let mut options = options(url, database, authorities).await?;
        if let Some(named) = options.default_database.as_deref().filter(|named| *named != database) {
            return Err(MongoOpenError::Database { named: named.into(), database: database.into() });
        }
        let application = options.app_name.clone().unwrap_or_default().into();
        let primary = Primary::default();
        options.sdam_event_handler = Some(primary.observer());
        let client = Client::with_options(options).map_err(|error| unreadable(&error))?;
        let database = client.database(database);
        let about = Box::pin(begin::begin(&database, begin::PRIMARY_MAX)).await?;
        if !about.is_known() {
            return Err(MongoOpenError::Layout { database: database.name().into(), found: about.format });
        }
        Ok(Self {
            events: database.collection(schema::EVENTS),
            collection: Box::pin(CollectionId::of_events(&database)).await?,
            ends: Arc::new(no_ends()),
            start: about.start,
            application,
            primary,
            search_max: search::SEARCH_MAX,
            client,
            database,
        })
    }

    /// The same store with another limit on how long the server may look for what follows a feed's position, for tests
    /// that do not wait as long as a bank does.
    #[cfg(feature = "contract")]
    #[must_use]
    pub fn searching_at_most(self, search_max: Duration) -> Self {
        Self { search_max, ..self }
    }
}

async fn options(
    url: &str,
    database: &str,
    authorities: Option<&TlsAuthorities>,
) -> Result<ClientOptions, MongoOpenError> {
    let mut options = ClientOptions::parse(url).await.map_err(|error| unreadable(&error))?;
    let weak_write = options.write_concern.as_ref().is_some_and(|asked| {
        asked.journal == Some(false) || asked.w.as_ref().is_some_and(|w| *w != Acknowledgment::Majority)
    });
    if weak_write {
        return Err(MongoOpenError::Weakened("w and journal"));
    }
    let weak_read = options.read_concern.as_ref().is_some_and(|asked| asked.level != ReadConcernLevel::Majority);
    if weak_read {
        return Err(MongoOpenError::Weakened("readConcernLevel"));
    }
    options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(mongodb::options::ReadPreference::Primary));
    options.retry_writes = Some(true);
    options.retry_reads = Some(true);
    options.max_pool_size = Some(CONNECTIONS_MAX);
    options.server_selection_timeout = Some(SERVER_FOUND_WITHIN);
    options.connect_timeout = Some(CONNECT_MAX);
    if let (Some(authorities), Some(Tls::Enabled(tls))) = (authorities, &mut options.tls) {
        tls.ca_file_path.get_or_insert_with(|| authorities.path().to_owned());
    }
    // Identifies the transactions of this bank.
    options.app_name.get_or_insert_with(|| format!("bank {database}"));
    Ok(options)
}

/// A cache of ends. It does not keep the keys of evicted ones: each would take as much room as an end.
fn no_ends() -> Cache<AccountId, Version> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(ENDS_KEPT)
        .weight_capacity(ENDS_KEPT as u64)
        .ghost_allocation(0.0)
        .build()
        .expect("a cache needs a capacity and has one");
    Cache::with_options(options, UnitWeighter, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// The driver's message about a URL names the option, never the password.
fn unreadable(error: &mongodb::error::Error) -> MongoOpenError {
    MongoOpenError::Url(failure::words_of(error).into())
}

/// A moment up to which a majority has everything, and whether the store has any write at it.
///
/// It comes from a majority read, not from a `hello`: that reports moments that only the primary has, and a commit at
/// one of them would neither be read yet nor come after it.
async fn settled(database: &Database) -> Result<(ClusterTime, bool), BackendError> {
    let any = doc! {
        "find": schema::EVENTS,
        "projection": { "_id": 1 },
        "limit": 1,
        "singleBatch": true,
        "readConcern": { "level": "majority" },
    };
    let answer = failure::read("head", async { database.run_command(any).await }).await?;
    let moment = answer.get_timestamp("operationTime");
    let found = answer.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    match (moment, found) {
        (Ok(moment), Ok(found)) => Ok((moment, !found.is_empty())),
        (Err(_), _) => Err(BackendError::broken("head", MongoOpenError::NotReplicated)),
        (Ok(_), Err(strange)) => Err(BackendError::not_done("head", strange)),
    }
}

impl EventStore for MongoStore {
    type Feed = MongoFeed;

    async fn append(&self, commits: Vec<Commit>) -> Vec<Result<Appended, AppendError>> {
        if commits.is_empty() {
            return Vec::new();
        }
        Box::pin(append::append(self, &commits)).await
    }

    async fn read_streams(
        &self,
        streams: &[StreamAfter],
        limit_each: usize,
    ) -> Result<Vec<Vec<Recorded>>, BackendError> {
        self.read_on(streams, limit_each).await
    }

    async fn find_commits(&self, ids: &[CommitId]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        let found = self.commits_by_id(ids).await?;
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    async fn find_keys(&self, keys: &[IdempotencyKey]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        let found = self.commits_by_key(keys).await?;
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn scan(&self, slots: SlotRange, after: Option<StreamAfter>, limit: usize) -> Result<ScanPage, BackendError> {
        self.scan_page(slots, after, limit).await
    }

    async fn heads(
        &self,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        self.heads_page(slots, after, limit).await
    }

    async fn head(&self) -> Result<Position, BackendError> {
        let (moment, written) = Box::pin(settled(&self.database)).await?;
        Ok(if written { self.collection.position_at(moment) } else { Position::Start })
    }

    async fn feed(&self, after: Position) -> Result<MongoFeed, FeedError> {
        Box::pin(MongoFeed::open(self, after)).await
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::time::Instant;

    use super::*;
    use crate::error::Effect;
    use crate::store::contract::plain_commit;

    #[tokio::test]
    async fn every_write_is_acknowledged_by_a_majority_and_its_journals_whatever_the_url_says() {
        for url in ["mongodb://host", "mongodb://host/?w=majority&journal=true&readConcernLevel=majority"] {
            let options = options(url, "bank", None).await.unwrap();
            let database = Client::with_options(options).unwrap().database("bank");
            let promised = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
            assert_eq!(database.write_concern(), Some(&promised));
            assert_eq!(database.read_concern(), Some(&ReadConcern::majority()));
        }
    }

    /// A store whose replica set has one member, which cannot be reached.
    pub(super) async fn store_without_server() -> MongoStore {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = options(&format!("mongodb://127.0.0.1:{port}/?replicaSet=rs0"), "bank", None).await.unwrap();
        let client = Client::with_options(options).unwrap();
        let database = client.database("bank");
        MongoStore {
            events: database.collection(schema::EVENTS),
            collection: CollectionId::new([1; 16]),
            ends: Arc::new(no_ends()),
            start: ClusterTime { time: 1, increment: 1 },
            application: "bank bank".into(),
            primary: Primary::default(),
            search_max: search::SEARCH_MAX,
            client,
            database,
        }
    }

    /// An append that inserts at once, one that looks up its stream first, and a transaction.
    #[tokio::test]
    async fn an_append_that_finds_no_server_ends_soon_and_had_no_effect() {
        let store = store_without_server().await;
        let [one, two, three, four] = [1, 2, 3, 4].map(|number| AccountId::from_bytes([number; 16]));
        let appends = [vec![(one, 0)], vec![(two, 7)], vec![(three, 0), (four, 0)]];
        let id = CommitId::from_bytes([1; 16]);
        let began = Instant::now();
        let fates = appends.map(|writes| store.append(vec![plain_commit(id, &writes)]));
        let fates = futures::future::join_all(fates).await;
        assert!(began.elapsed() < 2 * SERVER_FOUND_WITHIN, "{:?}", began.elapsed());
        for fate in fates.into_iter().flatten() {
            assert!(matches!(&fate, Err(AppendError::Backend(failure)) if failure.effect == Effect::None), "{fate:?}");
        }
    }
}
