//! The store in MongoDB keeps the laws of the store, and some promises of its own.

use std::thread;
use std::time::Duration;

use futures::future::join_all;
use mongodb::bson::{Bson, Document, doc};
use shared::clock::Clock;
use shared::coordinate::{Position, Version};
use shared::event::StreamAfter;
use shared::id::{AccountId, Ids};
use shared::store::{
    Appended, ChangeFeed, Commit, EventStore, FeedError, MongoFeed, MongoOpenError, MongoStore, contract,
};

use tokio::sync::Mutex;

use super::listener::Listener;
use super::own::until;
use super::server::Server;

/// A database of one test; dropped with it.
pub(crate) struct Scratch {
    name: String,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { name: format!("bank_test_{}", Ids::new(Clock::system()).event()) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn opened(&self) -> MongoStore {
        MongoStore::open(&self.url(), &self.name, None).await.expect("a replica set and a database of this release")
    }

    /// The name of the database is also the name of the application, so that a fault hits this test alone.
    pub(crate) fn url(&self) -> String {
        with_option(&format!("appName={}", self.name))
    }

    /// Makes the server fail commands of this test; `mode` as the server knows it.
    pub(crate) async fn fail(&self, mode: impl Into<Bson>, command: &str, fault: Document) {
        self.fail_any(mode, &[command], fault).await;
    }

    /// The same for commands of several kinds, which the mode counts together.
    async fn fail_any(&self, mode: impl Into<Bson>, commands: &[&str], fault: Document) {
        let mut data = doc! { "failCommands": commands.to_vec(), "appName": &self.name };
        data.extend(fault);
        let failpoint = doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        let client = mongodb::Client::with_uri_str(Server::Mongo.url()).await.expect("a URL of a server");
        client.database("admin").run_command(failpoint).await.expect("a server with test commands");
    }
}

fn with_option(option: &str) -> String {
    let url = Server::Mongo.url();
    format!("{url}{}{option}", if url.contains('?') { '&' } else { '?' })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let name = self.name.clone();
        // On a thread of its own, since a test's runtime cannot be blocked on from within.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a thread may have a runtime").block_on(async {
                mongodb::Client::with_uri_str(Server::Mongo.url()).await?.database(&name).drop().await
            })
        });
        // A test that failed may have failed because no server answers.
        if !thread::panicking() {
            dropped.join().expect("the thread does not panic").expect("the database can be dropped");
        }
    }
}

pub(crate) async fn empty_store() -> (MongoStore, Scratch) {
    let scratch = Scratch::new();
    (scratch.opened().await, scratch)
}

shared::store_contract!(empty_store());

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_store_is_opened_again() {
    let scratch = Scratch::new();
    contract::what_was_acknowledged_is_there_when_the_store_is_opened_again(async || scratch.opened().await).await;
}

pub(crate) fn commit(ids: &Ids, writes: &[(AccountId, u64)]) -> Commit {
    contract::plain_commit(ids.commit(), writes)
}

/// More streams than one query asks for, some of them twice and from different versions.
#[tokio::test]
async fn many_streams_are_read_in_one_call() {
    let (store, _scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let streams: Vec<AccountId> = (0..300).map(|_| ids.account()).collect();
    let commits = streams.iter().flat_map(|stream| (0..3).map(|head| commit(&ids, &[(*stream, head)]))).collect();
    for fate in store.append(commits).await {
        assert_eq!(fate.unwrap(), Appended::New);
    }
    let question =
        |(n, stream): (usize, &AccountId)| StreamAfter { stream: *stream, after: Version::new(n as u64 % 4) };
    let mut questions: Vec<StreamAfter> = streams.iter().enumerate().map(question).collect();
    questions.extend(streams.iter().map(|stream| StreamAfter { stream: *stream, after: Version::new(1) }));
    for (question, records) in questions.iter().zip(store.read_streams(&questions, 10).await.unwrap()) {
        let versions: Vec<u64> = records.iter().map(|record| record.first_version.get()).collect();
        assert_eq!(versions, (question.after.get() + 1..=3).collect::<Vec<u64>>());
    }
}

#[tokio::test]
async fn a_position_of_another_kind_of_store_is_lost() {
    let (store, _scratch) = empty_store().await;
    for unknown in [Position::Number(1), Position::Token("from elsewhere".into()), Position::Token("moment:x".into())] {
        assert!(matches!(store.feed(unknown.clone()).await, Err(FeedError::Lost(lost)) if lost == unknown));
    }
}

#[tokio::test]
async fn a_url_that_weakens_the_store_is_refused() {
    for option in ["w=1", "journal=false", "readConcernLevel=local"] {
        let refusal = MongoStore::open(&with_option(option), "bank_test_never_made", None).await.unwrap_err();
        assert!(matches!(refusal, MongoOpenError::Weakened(_)), "{refusal}");
    }
    assert!(matches!(MongoStore::open("mongodb://", "x", None).await, Err(MongoOpenError::Url(_))));
}

#[tokio::test]
async fn a_url_that_names_another_database_is_refused_with_the_way_out() {
    let url = Server::Mongo.url().replace("/?", "/elsewhere?");
    let refusal = MongoStore::open(&url, "bank_test_never_made", None).await.unwrap_err().to_string();
    assert!(refusal.contains("leave /elsewhere out") && refusal.contains("--namespace"), "{refusal}");
    let scratch = Scratch::new();
    let url = Server::Mongo.url().replace("/?", &format!("/{}?", scratch.name));
    MongoStore::open(&url, &scratch.name, None).await.unwrap();
}

/// As many processes do when a bank starts.
#[tokio::test]
async fn many_may_open_a_new_store_at_once() {
    let scratch = Scratch::new();
    let stores = join_all((0..4).map(|_| scratch.opened())).await;
    let ids = Ids::new(Clock::system());
    for store in stores {
        store.append(vec![commit(&ids, &[(ids.account(), 0)])]).await.remove(0).unwrap();
    }
}

/// The server has one failpoint for failing commands, so the tests that set it take turns.
pub(crate) static FAULTS: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn a_feed_tells_its_failure_and_then_goes_on_behind_what_it_yielded() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let stream = ids.account();
    let mut feed = store.feed(Position::Start).await.unwrap();
    for (head, fault) in [doc! { "errorCode": 43 }, doc! { "closeConnection": true }].into_iter().enumerate() {
        store.append(vec![commit(&ids, &[(stream, head as u64)])]).await.remove(0).unwrap();
        scratch.fail(doc! { "times": 1 }, "getMore", fault).await;
        assert!(matches!(feed.next_batch(10).await, Err(FeedError::Backend(_))));
        let version = loop {
            if let Some(entry) = feed.next_batch(10).await.unwrap().entries.pop() {
                break entry.recorded.first_version;
            }
        };
        assert_eq!(version, Version::new(head as u64 + 1));
    }
}

/// The next stream that a feed has a write of, and how often it only said that it is alive before.
async fn next_stream(feed: &mut MongoFeed) -> (AccountId, usize) {
    let mut signs = 0;
    loop {
        match feed.next_batch(10).await.unwrap().entries.pop() {
            Some(entry) => return (entry.recorded.stream, signs),
            None => signs += 1,
        }
    }
}

/// As when other databases have written millions of documents behind the position: one request opens a feed, and one is
/// of a feed that is open. Each takes two seconds more than a call may.
#[tokio::test]
async fn a_server_that_searches_longer_than_a_call_may_take_is_waited_for() {
    let _turn = FAULTS.lock().await;
    let listener = Listener::new(tracing::Level::INFO);
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let stream = ids.account();
    let mut open = store.feed(Position::Start).await.unwrap();
    let search = doc! { "blockConnection": true, "blockTimeMS": 12_000 };
    scratch.fail_any(doc! { "times": 2 }, &["aggregate", "getMore"], search).await;
    let append = store.append(vec![commit(&ids, &[(stream, 0)])]);
    let (opened, next, mut fates) = futures::join!(store.feed(Position::Start), next_stream(&mut open), append);
    fates.remove(0).unwrap();
    let (yielded, signs) = next;
    assert_eq!(yielded, stream);
    assert!(signs > 0, "no sign of life during the search");
    let (yielded, _) = next_stream(&mut opened.unwrap()).await;
    assert_eq!(yielded, stream);
    let heard = listener.heard();
    assert!(heard.contains("still looks for what follows the feed's position"), "{heard}");
}

/// A failure would make the forwarder open the feed again, and the same search would begin again.
#[tokio::test]
async fn a_position_that_is_searched_for_too_long_is_lost() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    let store = store.searching_at_most(Duration::from_secs(5));
    let ids = Ids::new(Clock::system());
    store.append(vec![commit(&ids, &[(ids.account(), 0)])]).await.remove(0).unwrap();
    let position = store.head().await.unwrap();
    let search = doc! { "blockConnection": true, "blockTimeMS": 12_000 };
    scratch.fail(doc! { "times": 1 }, "aggregate", search).await;
    let opened = store.feed(position.clone()).await;
    assert!(matches!(&opened, Err(FeedError::Lost(lost)) if *lost == position), "{:?}", opened.err());
}

/// A forwarder that begins at the start of an empty store has missed nothing.
#[tokio::test]
async fn the_head_of_an_empty_store_is_its_start_also_when_the_server_forgot_that_moment() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    assert_eq!(store.head().await.unwrap(), Position::Start);
    scratch.fail(doc! { "times": 1 }, "aggregate", doc! { "errorCode": 286 }).await;
    let mut feed = store.feed(Position::Start).await.unwrap();
    let ids = Ids::new(Clock::system());
    store.append(vec![commit(&ids, &[(ids.account(), 0)])]).await.remove(0).unwrap();
    while feed.next_batch(10).await.unwrap().entries.is_empty() {}

    assert_ne!(store.head().await.unwrap(), Position::Start);
    scratch.fail(doc! { "times": 1 }, "aggregate", doc! { "errorCode": 286 }).await;
    assert!(matches!(store.feed(Position::Start).await, Err(FeedError::Lost(Position::Start))));
}

/// The server's errors when its oplog has rolled over.
#[tokio::test]
async fn a_feed_whose_history_is_gone_is_lost() {
    let _turn = FAULTS.lock().await;
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    store.append(vec![commit(&ids, &[(ids.account(), 0)])]).await.remove(0).unwrap();
    let position = store.head().await.unwrap();
    // History lost, a fatal error of the stream, a token that cannot be read.
    for code in [286, 280, 260] {
        let mut feed = store.feed(position.clone()).await.unwrap();
        scratch.fail(doc! { "times": 1 }, "getMore", doc! { "errorCode": code }).await;
        // Entries that arrived earlier are yielded first.
        let told = loop {
            if let Err(told) = feed.next_batch(10).await {
                break told;
            }
        };
        assert!(matches!(told, FeedError::Lost(_)), "{told}");
        scratch.fail(doc! { "times": 1 }, "aggregate", doc! { "errorCode": code }).await;
        assert!(matches!(store.feed(position.clone()).await, Err(FeedError::Lost(lost)) if lost == position));
    }
}

/// Hexadecimal as the server's own tokens are, and nonsense.
#[tokio::test]
async fn a_token_the_server_cannot_read_is_lost() {
    let (store, _scratch) = empty_store().await;
    for garbage in ["82", "8263", "00", "ffffffffffff", "826399ABCD000000"] {
        let position = Position::Token(garbage.into());
        let opened = store.feed(position.clone()).await;
        assert!(matches!(&opened, Err(FeedError::Lost(lost)) if *lost == position), "{garbage}: {:?}", opened.err());
    }
}

/// As when a backup is restored: the position is from before, and the oplog still holds what was removed.
#[tokio::test]
async fn a_position_of_a_collection_that_another_one_has_replaced_is_lost() {
    let (store, scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let stream = ids.account();
    store.append(vec![commit(&ids, &[(stream, 0)])]).await.remove(0).unwrap();
    let moment = store.head().await.unwrap();
    let mut feed = store.feed(Position::Start).await.unwrap();
    let token = until("the feed yields", async || feed.next_batch(10).await.unwrap().entries.pop()).await.position;
    store.append(vec![commit(&ids, &[(stream, 1)])]).await.remove(0).unwrap();

    let client = mongodb::Client::with_uri_str(Server::Mongo.url()).await.expect("a URL of a server");
    client.database(&scratch.name).collection::<Document>("events").drop().await.unwrap();
    let restored = scratch.opened().await;
    restored.append(vec![commit(&ids, &[(stream, 0)])]).await.remove(0).unwrap();
    for position in [moment, token] {
        let opened = restored.feed(position.clone()).await;
        assert!(matches!(&opened, Err(FeedError::Lost(lost)) if *lost == position), "{:?}", opened.err());
    }
    assert!(restored.feed(restored.head().await.unwrap()).await.is_ok());
}

/// How many cursors of a store's feeds the server holds without a reader.
async fn idle_cursors(scratch: &Scratch) -> usize {
    let client = mongodb::Client::with_uri_str(Server::Mongo.url()).await.expect("a URL of a server");
    let namespace = format!("{}.events", scratch.name);
    let pipeline = vec![
        doc! { "$currentOp": { "idleCursors": true, "allUsers": true } },
        doc! { "$match": { "type": "idleCursor", "ns": namespace } },
    ];
    let found = client.database("admin").aggregate(pipeline).await.expect("a server that tells");
    futures::TryStreamExt::try_collect::<Vec<Document>>(found).await.expect("a server that tells").len()
}

#[tokio::test]
async fn a_feed_that_is_dropped_leaves_no_cursor_whatever_it_was_doing() {
    let (store, scratch) = empty_store().await;
    let idle = store.feed(Position::Start).await.unwrap();
    assert_eq!(idle_cursors(&scratch).await, 1);
    let mut waiting = store.feed(Position::Start).await.unwrap();
    assert!(futures::FutureExt::now_or_never(waiting.next_batch(10)).is_none());
    drop((idle, waiting));
    until("no cursor is left", async || (idle_cursors(&scratch).await == 0).then_some(())).await;
}

/// A page of heads passes long streams and short ones, and ends at any of them.
#[tokio::test]
async fn the_heads_of_long_streams_are_as_true_as_those_of_short_ones() {
    let (store, _scratch) = empty_store().await;
    let ids = Ids::new(Clock::system());
    let mut heads = Vec::new();
    for length in [1, 2_500, 1, 1_000, 1_001, 3, 999] {
        let stream = ids.account();
        for first in (0..length).step_by(500) {
            let batch = (first..length.min(first + 500)).map(|head| commit(&ids, &[(stream, head)])).collect();
            for fate in store.append(batch).await {
                fate.unwrap();
            }
        }
        heads.push((stream, Version::new(length)));
    }
    heads.sort_unstable_by_key(|(stream, _)| (shared::partition::Slot::of(stream), *stream));
    for limit in 1..=8 {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = store.heads(shared::partition::SlotRange::ALL, after, limit).await.unwrap();
            paged.extend_from_slice(&page);
            after = page.last().map(|(stream, _)| *stream);
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(paged, heads, "in pages of {limit}");
    }
}
