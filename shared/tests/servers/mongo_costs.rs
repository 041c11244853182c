//! How many commands to MongoDB the calls of the services take: a few for thousands of events.

use bytes::Bytes;
use shared::clock::Clock;
use shared::coordinate::{Position, Version};
use shared::event::StreamAfter;
use shared::id::{AccountId, CommitId, Ids};
use shared::partition::SlotRange;
use shared::store::{AppendError, Appended, ChangeFeed, Commit, EventStore, MongoStore, Snapshot, Snapshots};

use super::mongo::{Scratch, commit};
use super::server::Server;
use super::tap::Tap;

/// About as many commits as a batch holds.
const COMMITS: usize = 1_000;

struct Tapped {
    tap: Tap,
    scratch: Scratch,
    ids: Ids,
    streams: Vec<AccountId>,
}

impl Tapped {
    async fn new() -> Self {
        let ids = Ids::new(Clock::system());
        let streams = (0..COMMITS).map(|_| ids.account()).collect();
        Self { tap: Tap::on(Server::Mongo).await, scratch: Scratch::new(), ids, streams }
    }

    /// A store that remembers nothing yet.
    async fn store(&self) -> MongoStore {
        let url = format!("mongodb://{}/?directConnection=true", self.tap.address());
        MongoStore::open(&url, self.scratch.name(), None).await.unwrap()
    }

    /// A store that holds three commits of each stream.
    async fn filled(&self) -> MongoStore {
        let store = self.store().await;
        for head in 0..3 {
            take(&store, self.commits(head)).await;
        }
        store
    }

    fn behind(&self, version: u64) -> Vec<StreamAfter> {
        self.streams.iter().map(|stream| StreamAfter { stream: *stream, after: Version::new(version) }).collect()
    }

    /// The next commit of each stream.
    fn commits(&self, head: u64) -> Vec<Commit> {
        self.streams.iter().map(|stream| commit(&self.ids, &[(*stream, head)])).collect()
    }
}

async fn take(store: &MongoStore, commits: Vec<Commit>) {
    for fate in store.append(commits).await {
        assert_eq!(fate.unwrap(), Appended::New);
    }
}

#[tokio::test]
async fn a_batch_of_a_thousand_commits_is_one_command_when_its_streams_are_known() {
    let tapped = Tapped::new().await;
    let store = tapped.store().await;
    // New streams need no look-up.
    tapped.tap.costs(1, take(&store, tapped.commits(0))).await;
    tapped.tap.costs(1, take(&store, tapped.commits(1))).await;

    // Another process looks up the ends of 64 streams in one command.
    let stranger = tapped.store().await;
    tapped.tap.costs(16 + 1, take(&stranger, tapped.commits(2))).await;
    tapped.tap.costs(1, take(&stranger, tapped.commits(3))).await;
}

#[tokio::test]
async fn a_batch_with_a_transfer_is_two_commands() {
    let tapped = Tapped::new().await;
    let store = tapped.store().await;
    let transfer = |pair: &[AccountId]| commit(&tapped.ids, &[(pair[0], 0), (pair[1], 0)]);
    let mut commits: Vec<Commit> = tapped.streams[1..].chunks_exact(2).map(transfer).collect();
    commits.push(commit(&tapped.ids, &[(tapped.streams[0], 0)]));
    // The insert of what they write, and the end of their transaction.
    tapped.tap.costs(2, take(&store, commits)).await;
}

#[tokio::test]
async fn a_commit_that_is_refused_makes_its_batch_look_once_and_not_each_of_it() {
    let tapped = Tapped::new().await;
    let store = tapped.store().await;
    take(&store, tapped.commits(0)).await;
    let mut commits = tapped.commits(1);
    commits[500].writes[0].expected = Version::new(7);
    // The end that the refused commit expects, then all ends, 64 in a command, then whether an id was taken; and the
    // insert.
    let fates = tapped.tap.costs(1 + 16 + 1 + 1, store.append(commits)).await;
    assert!(matches!(fates[500], Err(AppendError::Conflict { .. })));
    assert_eq!(fates.iter().filter(|fate| matches!(fate, Ok(Appended::New))).count(), COMMITS - 1);
}

#[tokio::test]
async fn a_thousand_snapshots_are_kept_with_one_command() {
    let tapped = Tapped::new().await;
    let store = tapped.store().await;
    let state = Bytes::from_static(b"{}");
    let snapshot =
        |stream: &AccountId| Snapshot { stream: *stream, version: Version::new(1), schema: 1, state: state.clone() };
    tapped.tap.costs(1, store.save_snapshots(tapped.streams.iter().map(snapshot).collect())).await.unwrap();
    // A first answer of 101, and one with the rest.
    let found = tapped.tap.costs(2, store.load_snapshots(&tapped.streams)).await.unwrap();
    assert!(found.iter().all(Option::is_some));
}

#[tokio::test]
async fn what_a_thousand_commits_wrote_is_read_with_few_commands() {
    let tapped = Tapped::new().await;
    let store = tapped.filled().await;
    let tap = &tapped.tap;

    // One command asks for 64 streams; 192 events are more than a first answer of 101 holds.
    let read = tap.costs(2 * 16, store.read_streams(&tapped.behind(0), 1_000)).await.unwrap();
    assert!(read.iter().all(|records| records.len() == 3));
    tap.costs(16, store.read_streams(&tapped.behind(2), 1_000)).await.unwrap();

    // A page is one answer.
    let page = tap.costs(1, store.scan(SlotRange::ALL, None, 8_192)).await.unwrap();
    assert_eq!((page.records.len(), page.next), (3 * COMMITS, None));

    // Heads are read from the writes, a thousand in each answer, with an empty one at the end.
    let heads = tap.costs(4, store.heads(SlotRange::ALL, None, 4_096)).await.unwrap();
    assert_eq!(heads.len(), COMMITS);

    // A first answer of 101, and one with the rest.
    let commits = tapped.commits(3);
    let ids: Vec<CommitId> = commits.iter().map(|commit| commit.id).collect();
    take(&store, commits).await;
    let found = tap.costs(2, store.find_commits(&ids)).await.unwrap();
    assert!(found.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_read_of_the_past_costs_the_next_append_no_look_up() {
    let tapped = Tapped::new().await;
    let store = tapped.filled().await;
    let read = store.read_streams(&tapped.behind(0), 1).await.unwrap();
    assert!(read.iter().all(|records| records.len() == 1));
    tapped.tap.costs(1, take(&store, tapped.commits(3))).await;
}

#[tokio::test]
async fn three_thousand_events_come_through_the_feed_in_a_few_answers() {
    let tapped = Tapped::new().await;
    let store = tapped.filled().await;
    let drained = async {
        let mut feed = store.feed(Position::Start).await.unwrap();
        let mut left = 3 * COMMITS;
        while left > 0 {
            left -= feed.next_batch(4_096).await.unwrap().entries.len();
        }
    };
    // An answer has 4,000 of them, the first one too, unless the server has not found so many yet.
    tapped.tap.costs(4, drained).await;
}
