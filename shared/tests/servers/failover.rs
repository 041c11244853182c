//! What happens to the store when servers step down, die, or forget: acknowledged commits stay, and none is taken
//! twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use mongodb::bson::{Bson, Document, doc};
use shared::clock::Clock;
use shared::coordinate::{Position, Version};
use shared::error::Effect;
use shared::event::StreamAfter;
use shared::id::{AccountId, CommitId, Ids};
use shared::partition::SlotRange;
use shared::store::contract::plain_commit;
use shared::store::{AppendError, Appended, ChangeFeed, EventStore, FeedError, MongoStore};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::own::{Own, Program, free_port, mongod, until, words};

/// How many streams are written to at the same time.
const WRITERS: usize = 8;

/// The states of members that hold the data of the set.
const PRIMARY: i32 = 1;
const SECONDARY: i32 = 2;

/// How long a writer waits before it asks again about a commit of unknown fate.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A replica set of this test, with elections as quick as they get.
pub(crate) struct Set {
    members: Vec<Own>,
}

impl Set {
    pub(crate) async fn new(members: usize, more: &str) -> Self {
        let arguments = |folder: &Path, port| [mongod(folder, port), words(&format!("--replSet rs0 {more}"))].concat();
        let members = join_all((0..members).map(|_| Own::start(Program::Mongo, arguments))).await;
        let set = Self { members };
        let config: Vec<Document> = set
            .members
            .iter()
            .enumerate()
            .map(|(number, member)| doc! { "_id": i32::try_from(number).expect("a few"), "host": member.address() })
            .collect();
        let settings = doc! { "electionTimeoutMillis": 1_000, "heartbeatIntervalMillis": 300 };
        let initiate = doc! { "replSetInitiate": { "_id": "rs0", "members": config, "settings": settings } };
        set.admin(0).await.run_command(initiate).await.expect("a new replica set");
        until("every member has a history of its own", async || set.is_complete().await.then_some(())).await;
        set
    }

    /// Whether every member is the primary or follows it. One that is still copying has no history from before.
    async fn is_complete(&self) -> bool {
        let Ok(status) = self.admin(0).await.run_command(doc! { "replSetGetStatus": 1 }).await else { return false };
        let members = status.get_array("members").expect("members");
        let state = |member: &Bson| member.as_document().and_then(|member| member.get_i32("state").ok());
        members.iter().all(|member| matches!(state(member), Some(PRIMARY | SECONDARY)))
    }

    async fn admin(&self, member: usize) -> mongodb::Database {
        let url = format!("mongodb://{}/?directConnection=true", self.members[member].address());
        mongodb::Client::with_uri_str(url).await.expect("a URL").database("admin")
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.members.iter().map(Own::address).collect();
        format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
    }

    pub(crate) async fn opened(&self) -> MongoStore {
        until("a primary is there", async || MongoStore::open(&self.url(), "bank", None).await.ok()).await
    }

    /// Lets a member fetch from the primary, or not; its heartbeats go on.
    async fn replicates(&self, member: usize, is_allowed: bool) {
        let mode = if is_allowed { "off" } else { "alwaysOn" };
        let order = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
        self.admin(member).await.run_command(order).await.expect("a member that takes test commands");
    }

    /// Which member is the primary; one that does not answer is not.
    async fn primary(&self) -> Option<usize> {
        for member in 0..self.members.len() {
            let admin = self.admin(member).await;
            let asked = async { admin.run_command(doc! { "hello": 1 }).await };
            let hello = tokio::time::timeout(Duration::from_millis(500), asked).await;
            if let Ok(Ok(hello)) = hello
                && hello.get_bool("isWritablePrimary").unwrap_or_default()
            {
                return Some(member);
            }
        }
        None
    }
}

/// Appends to a stream of its own until told to stop, and returns the acknowledged commits.
async fn write(store: &MongoStore, stream: AccountId, goes_on: &watch::Receiver<bool>) -> Vec<CommitId> {
    let ids = Ids::new(Clock::system());
    let mut acknowledged = Vec::new();
    while *goes_on.borrow() {
        let id = ids.commit();
        let expected = acknowledged.len() as u64;
        loop {
            match store.append(vec![plain_commit(id, &[(stream, expected)])]).await.remove(0) {
                Ok(Appended::New) => break,
                Ok(Appended::Before(before)) => {
                    assert_eq!(before.id, id, "the id of somebody else");
                    break;
                }
                Err(AppendError::Backend(_)) => sleep(ASK_AGAIN).await,
                Err(conflict) => panic!("nobody else writes to the stream: {conflict}"),
            }
        }
        acknowledged.push(id);
    }
    acknowledged
}

/// Writes while something happens, and then compares the acknowledged commits with the store, and with a feed from the
/// start.
async fn writes_survive(set: &mut Set, store: &MongoStore, happening: impl AsyncFnOnce(&mut Set, &Progress<'_>)) {
    let ids = Ids::new(Clock::system());
    let streams: Vec<AccountId> = (0..WRITERS).map(|_| ids.account()).collect();
    let (stop, goes_on) = watch::channel(true);
    let writing = join_all(streams.iter().map(|stream| write(store, *stream, &goes_on)));
    let progress = Progress { store, streams: &streams };
    let meanwhile = async {
        happening(set, &progress).await;
        stop.send(false).expect("writers that listen");
    };
    let (acknowledged, ()) = futures::join!(writing, meanwhile);

    let commits: Vec<CommitId> = acknowledged.iter().flatten().copied().collect();
    assert!(store.find_commits(&commits).await.unwrap().iter().all(Option::is_some), "an acknowledged commit is lost");
    let expected: BTreeMap<AccountId, Vec<u64>> = streams
        .iter()
        .zip(&acknowledged)
        .map(|(stream, commits)| (*stream, (1..=commits.len() as u64).collect()))
        .collect();
    let questions: Vec<StreamAfter> =
        streams.iter().map(|stream| StreamAfter { stream: *stream, after: Version::EMPTY }).collect();
    let read = store.read_streams(&questions, usize::MAX >> 1).await.unwrap();
    for (stream, records) in streams.iter().zip(read) {
        let versions: Vec<u64> = records.iter().map(|record| record.first_version.get()).collect();
        assert_eq!(versions, expected[stream], "a commit is lost or taken twice");
    }
    assert_eq!(fed(store, commits.len()).await, expected, "the feed skips or repeats");
}

/// The versions of each stream that a feed of everything yields.
async fn fed(store: &MongoStore, commits: usize) -> BTreeMap<AccountId, Vec<u64>> {
    let mut feed = store.feed(Position::Start).await.unwrap();
    let mut versions: BTreeMap<AccountId, Vec<u64>> = BTreeMap::new();
    let mut count = 0;
    while count < commits {
        for entry in feed.next_batch(1_000).await.unwrap().entries {
            count += 1;
            versions.entry(entry.recorded.stream).or_default().push(entry.recorded.first_version.get());
        }
    }
    versions
}

/// How far the writers are.
struct Progress<'a> {
    store: &'a MongoStore,
    streams: &'a [AccountId],
}

impl Progress<'_> {
    /// Waits until every writer is further than it is now.
    async fn goes_on(&self) {
        let before = until("heads are read", async || self.heads().await).await;
        until("every writer goes on", async || {
            let now = self.heads().await?;
            now.iter().zip(&before).all(|(now, before)| now > before).then_some(())
        })
        .await;
    }

    async fn heads(&self) -> Option<Vec<usize>> {
        let questions: Vec<StreamAfter> =
            self.streams.iter().map(|stream| StreamAfter { stream: *stream, after: Version::EMPTY }).collect();
        let read = self.store.read_streams(&questions, usize::MAX >> 1).await.ok()?;
        Some(read.iter().map(Vec::len).collect())
    }
}

#[tokio::test]
async fn appends_resume_by_themselves_after_a_primary_stepped_down_and_none_is_lost_or_taken_twice() {
    let mut set = Set::new(1, "").await;
    let store = set.opened().await;
    writes_survive(&mut set, &store, async |set, progress| {
        for _ in 0..3 {
            progress.goes_on().await;
            let step_down = doc! { "replSetStepDown": 2, "secondaryCatchUpPeriodSecs": 0, "force": true };
            set.admin(0).await.run_command(step_down).await.expect("a primary");
        }
        progress.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn the_death_of_the_only_member_costs_time_and_no_commit() {
    let mut set = Set::new(1, "").await;
    let store = set.opened().await;
    writes_survive(&mut set, &store, async |set, progress| {
        for _ in 0..3 {
            progress.goes_on().await;
            set.members[0].kill();
            set.members[0].start_again().await;
        }
        progress.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn a_set_of_three_goes_on_without_its_primary_and_keeps_what_was_acknowledged() {
    let mut set = Set::new(3, "").await;
    let store = set.opened().await;
    writes_survive(&mut set, &store, async |set, progress| {
        for _ in 0..2 {
            progress.goes_on().await;
            let primary = until("a primary is there", async || set.primary().await).await;
            set.members[primary].kill();
            progress.goes_on().await;
            set.members[primary].start_again().await;
        }
        progress.goes_on().await;
    })
    .await;
}

/// Goal: a feed leaves a primary that has stepped down. Here that one fetches nothing any more, so what is written from
/// then on never reaches it; it answers as a secondary, and as if nothing were written.
#[tokio::test]
async fn a_feed_leaves_a_primary_that_stepped_down_and_lags() {
    let set = Set::new(3, "").await;
    let store = set.opened().await;
    let (ids, stream) = (Ids::new(Clock::system()), Ids::new(Clock::system()).account());
    let taken = async |expected| {
        let commit = plain_commit(ids.commit(), &[(stream, expected)]);
        until("a commit is taken", async || store.append(vec![commit.clone()]).await.remove(0).ok()).await;
    };
    taken(0).await;
    let mut feed = store.feed(Position::Start).await.unwrap();
    let yielded = until("the feed yields", async || feed.next_batch(10).await.unwrap().entries.pop()).await;
    assert_eq!(yielded.recorded.first_version, Version::new(1));

    let former = until("a primary is there", async || set.primary().await).await;
    set.replicates(former, false).await;
    let step_down = doc! { "replSetStepDown": 600, "secondaryCatchUpPeriodSecs": 10 };
    set.admin(former).await.run_command(step_down).await.expect("a primary that others can follow");
    until("another one is the primary", async || set.primary().await.filter(|primary| *primary != former)).await;
    taken(1).await;
    let yielded = until("the feed follows", async || feed.next_batch(10).await.ok()?.entries.pop()).await;
    assert_eq!(yielded.recorded.first_version, Version::new(2));
}

/// Goal: a commit that the primary has taken and no majority confirms in time is of unknown fate: neither acknowledged
/// nor refused. Once a majority has it, it is found, and repeating it changes nothing.
#[tokio::test]
async fn a_commit_that_no_majority_confirms_in_time_is_of_unknown_fate_and_is_found_later() {
    let set = Set::new(3, "").await;
    let store = set.opened().await;
    let primary = until("a primary is there", async || set.primary().await).await;
    let followers = [(primary + 1) % 3, (primary + 2) % 3];
    for follower in followers {
        set.replicates(follower, false).await;
    }
    let (ids, stream) = (Ids::new(Clock::system()), Ids::new(Clock::system()).account());
    let doubtful = plain_commit(ids.commit(), &[(stream, 0)]);
    let outcome = store.append(vec![doubtful.clone()]).await.remove(0);
    let Err(AppendError::Backend(failure)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.effect, Effect::Unknown, "{failure}");
    for follower in followers {
        set.replicates(follower, true).await;
    }
    let find = async || store.find_commits(&[doubtful.id]).await.ok()?.remove(0);
    let found = until("the commit is found", find).await;
    assert_eq!(found.id, doubtful.id);
    let repeated = store.append(vec![doubtful.clone()]).await.remove(0);
    assert!(matches!(repeated, Ok(Appended::Before(ref before)) if before.id == doubtful.id), "{repeated:?}");
    let question = StreamAfter { stream, after: Version::EMPTY };
    assert_eq!(store.read_streams(&[question], 10).await.unwrap()[0].len(), 1, "taken twice");
}

/// A server whose oplog holds a megabyte, and more than that is written while the feed is not read.
#[tokio::test]
async fn a_feed_that_stood_still_while_the_oplog_rolled_over_is_lost_and_the_scan_has_all() {
    let set = Set::new(1, "--oplogSize 1 --syncdelay 1").await;
    let store = set.opened().await;
    let (ids, mut streams) = (Ids::new(Clock::system()), Vec::new());
    let append = async |stream| store.append(vec![plain_commit(ids.commit(), &[(stream, 0)])]).await.remove(0).unwrap();
    streams.push(ids.account());
    append(streams[0]).await;
    let position = store.head().await.unwrap();
    let mut stale = store.feed(position.clone()).await.unwrap();
    while stale.next_batch(10).await.unwrap().entries.is_empty() {}

    let filler = mongodb::Client::with_uri_str(set.url()).await.unwrap().database("filler").collection("filler");
    let lost = until("the oplog has rolled over", async || {
        streams.push(ids.account());
        append(streams[streams.len() - 1]).await;
        let chunk: Vec<Document> = (0..10).map(|_| doc! { "text": "x".repeat(50_000) }).collect();
        filler.insert_many(chunk).await.expect("a server that takes it");
        match store.feed(position.clone()).await {
            Err(FeedError::Lost(lost)) => Some(lost),
            Ok(_) => None,
            Err(FeedError::Backend(failure)) => panic!("{failure}"),
        }
    });
    assert_eq!(lost.await, position);

    // What a forwarder does in this case: note the head, read the store, go on from the head.
    let head = store.head().await.unwrap();
    let mut heads: Vec<AccountId> =
        store.heads(SlotRange::ALL, None, 10_000).await.unwrap().into_iter().map(|(stream, _)| stream).collect();
    heads.sort_unstable();
    streams.sort_unstable();
    assert_eq!(heads, streams);
    let mut feed = store.feed(head).await.unwrap();
    let late = ids.account();
    append(late).await;
    let yielded = until("the feed yields", async || feed.next_batch(10).await.unwrap().entries.pop()).await;
    assert_eq!(yielded.recorded.stream, late);
}

/// A port without a listener is a server that is gone.
#[tokio::test]
async fn a_set_that_is_not_there_is_an_error_and_no_hang() {
    let url = format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", free_port());
    assert!(MongoStore::open(&url, "bank", None).await.is_err());
}
