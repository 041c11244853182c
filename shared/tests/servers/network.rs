//! What only a network does: lost answers, connections that end, and silence. Each backend is behind a proxy, and a
//! second one of the same kind bypasses it to see what is true.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::coordinate::{Epoch, Offset, Position, Version};
use shared::error::{BackendError, Effect};
use shared::event::StreamAfter;
use shared::lease::{Ended, Holder, LeaseName, LeaseStore, RedisLeases, act_while_held};
use shared::log::contract::plain_entries;
use shared::log::{NatsLog, NatsOptions, PartitionLog, PartitionReader, PublishError, ReadError};
use shared::partition::{Partition, PartitionMap};
use shared::proxy::{Proxy, Trouble};
use shared::store::contract::plain_commit;
use shared::store::{AppendError, Appended, ChangeFeed, EventStore, MongoStore};
use tokio::time::{Instant, timeout};

use crate::mongo::Scratch;
use crate::own::until;
use crate::server::{Server, fresh, ids};

/// Longer than any call of any backend may take whose server does not say that it is still at work.
const CALLS_MAX: Duration = Duration::from_secs(40);

const ONE: Partition = Partition::new(1);

/// The outcome of a call, which must not hang.
async fn ended<T>(call: impl Future<Output = T>) -> T {
    timeout(CALLS_MAX, call).await.expect("a call that ends by itself")
}

async fn proxy(server: Server) -> Proxy {
    Proxy::start(server.address()).await.expect("a port of loopback")
}

// --- MongoDB ---------------------------------------------------------------------------------------------------------

/// A store behind a proxy, and the same one bypassing it.
async fn stores() -> (Proxy, MongoStore, MongoStore, Scratch) {
    let (proxy, scratch) = (proxy(Server::Mongo).await, Scratch::new());
    let direct = scratch.opened().await;
    let url = format!("mongodb://{}/?directConnection=true", proxy.address());
    let behind = MongoStore::open(&url, scratch.name(), None).await.expect("a server behind the proxy");
    (proxy, behind, direct, scratch)
}

fn failure(fate: Result<Appended, AppendError>) -> BackendError {
    match fate {
        Err(AppendError::Backend(failure)) => failure,
        fate => panic!("{fate:?} instead of a failure"),
    }
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_may_have_happened_and_its_id_tells() {
    let (proxy, behind, direct, _scratch) = stores().await;
    let (id, stream) = (ids().commit(), ids().account());
    // The answer to the commit takes so long that it can be lost after the commit.
    proxy.make(Trouble::Delay(Duration::from_millis(1_500)));
    let append = behind.append(vec![plain_commit(id, &[(stream, 0)])]);
    let lose = async {
        until("it is committed", async || direct.find_commits(&[id]).await.unwrap()[0].clone()).await;
        proxy.make(Trouble::Refuse);
    };
    let (mut fates, ()) = ended(async { futures::join!(append, lose) }).await;
    assert_eq!(failure(fates.remove(0)).effect, Effect::Unknown);

    proxy.make(Trouble::None);
    let found = until("the server is found again", async || behind.find_commits(&[id]).await.ok()).await;
    assert_eq!(found[0].as_ref().map(|found| found.id), Some(id));
    let repeated = ended(behind.append(vec![plain_commit(id, &[(stream, 0)])])).await.remove(0).unwrap();
    assert!(matches!(repeated, Appended::Before(before) if before.id == id));
}

#[tokio::test]
async fn an_append_that_was_not_asked_to_commit_had_no_effect() {
    let (proxy, behind, direct, _scratch) = stores().await;
    let id = ids().commit();
    // Two streams take a transaction.
    let transfer = plain_commit(id, &[(ids().account(), 0), (ids().account(), 0)]);
    proxy.make(Trouble::LoseReplies);
    let failed = failure(ended(behind.append(vec![transfer.clone()])).await.remove(0));
    assert_eq!(failed.effect, Effect::None, "{failed}");
    assert_eq!(direct.find_commits(&[id]).await.unwrap(), [None]);
    proxy.make(Trouble::None);
    let appended =
        until("the server is found again", async || behind.append(vec![transfer.clone()]).await.remove(0).ok());
    assert_eq!(appended.await, Appended::New);
}

#[tokio::test]
async fn a_store_whose_connections_are_cut_goes_on_by_itself() {
    let (proxy, behind, direct, _scratch) = stores().await;
    let stream = ids().account();
    let mut feed = behind.feed(Position::Start).await.unwrap();
    for expected in 0..5 {
        let id = ids().commit();
        proxy.cut();
        until("a commit is taken", async || {
            behind.append(vec![plain_commit(id, &[(stream, expected)])]).await.remove(0).ok()
        })
        .await;
        proxy.cut();
        let question = [StreamAfter { stream, after: Version::new(expected) }];
        let read = until("a stream is read", async || behind.read_streams(&question, 10).await.ok()).await;
        assert_eq!(read[0].len(), 1);
        proxy.cut();
        until("a head is read", async || behind.head().await.ok()).await;
        let yielded = until("the feed goes on", async || feed.next_batch(10).await.ok()?.entries.pop()).await;
        assert_eq!(yielded.recorded.first_version, Version::new(expected + 1));
    }
    let all = direct.read_streams(&[StreamAfter { stream, after: Version::EMPTY }], 100).await.unwrap();
    assert_eq!(all[0].len(), 5);
}

#[tokio::test]
async fn in_silence_every_call_of_the_store_ends_and_the_feed_says_that_it_is_dead() {
    let (proxy, behind, direct, _scratch) = stores().await;
    let stream = ids().account();
    let mut feed = behind.feed(Position::Start).await.unwrap();
    proxy.make(Trouble::Silence);
    let question = [StreamAfter { stream, after: Version::EMPTY }];
    let calls = async {
        futures::join!(
            async { behind.append(vec![plain_commit(ids().commit(), &[(stream, 0)])]).await.remove(0).is_err() },
            async { behind.read_streams(&question, 10).await.is_err() },
            async { behind.find_commits(&[ids().commit()]).await.is_err() },
            async { behind.head().await.is_err() },
            async { feed.next_batch(10).await.is_err() },
            async { behind.feed(Position::Start).await.is_err() },
        )
    };
    assert_eq!(ended(calls).await, (true, true, true, true, true, true));

    direct.append(vec![plain_commit(ids().commit(), &[(stream, 0)])]).await.remove(0).unwrap();
    proxy.make(Trouble::None);
    let yielded = until("the feed goes on", async || feed.next_batch(10).await.ok()?.entries.pop()).await;
    assert_eq!(yielded.recorded.stream, stream);
}

// --- NATS ------------------------------------------------------------------------------------------------------------

/// A log behind a proxy, and the same one bypassing it.
async fn logs() -> (Proxy, NatsLog, NatsLog) {
    let (proxy, namespace) = (proxy(Server::Nats).await, fresh());
    let open = async |url: &str| {
        let options = NatsOptions { url, ..NatsOptions::default() };
        NatsLog::open(options, &namespace, PartitionMap::new(1).unwrap(), ids()).await.expect("a NATS that answers")
    };
    let direct = open(&Server::Nats.url()).await;
    let behind = open(&format!("nats://{}", proxy.address())).await;
    (proxy, behind, direct)
}

#[tokio::test]
async fn a_publish_whose_answer_is_lost_may_have_happened_and_repeating_it_is_told() {
    let (proxy, behind, direct) = logs().await;
    let empty = behind.extent(ONE).await.unwrap();
    let batch = plain_entries(1..=10);
    proxy.make(Trouble::LoseReplies);
    match ended(behind.publish(ONE, &empty.incarnation, empty.last, &batch)).await {
        Err(PublishError::Backend(failure)) => assert_eq!(failure.effect, Effect::Unknown),
        outcome => panic!("{outcome:?} instead of an unknown effect"),
    }
    assert_eq!(direct.extent(ONE).await.unwrap().last, Offset::new(10));

    proxy.make(Trouble::None);
    let repeated = until("the server is found again", async || {
        match behind.publish(ONE, &empty.incarnation, empty.last, &batch).await {
            Err(PublishError::Backend(_)) => None,
            outcome => Some(outcome),
        }
    });
    let Err(PublishError::Conflict(extent)) = repeated.await else { panic!("it was stored twice") };
    assert_eq!((extent.last, &extent.incarnation), (Offset::new(10), &empty.incarnation));
    // As the forwarder does in this case; readers skip what they have.
    assert_eq!(behind.publish(ONE, &extent.incarnation, extent.last, &batch).await.unwrap(), Offset::new(20));
}

#[tokio::test]
async fn a_log_whose_connection_is_cut_goes_on_by_itself_and_its_reader_skips_nothing() {
    let (proxy, behind, direct) = logs().await;
    let life = behind.extent(ONE).await.unwrap();
    let mut reader = behind.reader(ONE, &life.incarnation, Offset::START).await.unwrap();
    let (mut last, mut read) = (Offset::START, 0);
    for round in 1..=5 {
        proxy.cut();
        until("a batch is published", async || {
            let extent = direct.extent(ONE).await.unwrap();
            if extent.last.get() == round * 3 {
                return Some(());
            }
            behind.publish(ONE, &life.incarnation, last, &plain_entries(1..=3)).await.ok().map(drop)
        })
        .await;
        last = Offset::new(round * 3);
        proxy.cut();
        while read < last.get() {
            let batch = until("the reader goes on", async || reader.next_batch(10).await.ok()).await;
            for record in batch {
                read += 1;
                assert_eq!(record.offset.get(), read);
            }
        }
    }
}

#[tokio::test]
async fn in_silence_every_call_of_the_log_ends_and_the_reader_says_that_it_is_dead() {
    let (proxy, behind, direct) = logs().await;
    let life = behind.extent(ONE).await.unwrap();
    let mut reader = behind.reader(ONE, &life.incarnation, Offset::START).await.unwrap();
    proxy.make(Trouble::Silence);
    let batch = plain_entries(1..=3);
    let calls = async {
        futures::join!(
            async { behind.extent(ONE).await.is_err() },
            async { behind.publish(ONE, &life.incarnation, life.last, &batch).await.is_err() },
            async { behind.trim(ONE, Offset::new(1), Timestamp::EPOCH).await.is_err() },
            async { reader.next_batch(10).await.is_err() },
            async { behind.reader(ONE, &life.incarnation, Offset::START).await.is_err() },
        )
    };
    assert_eq!(Box::pin(ended(calls)).await, (true, true, true, true, true));
    direct.publish(ONE, &life.incarnation, life.last, &batch).await.unwrap();
    proxy.make(Trouble::None);
    let read = until("the reader goes on", async || match reader.next_batch(10).await {
        Ok(records) => records.first().map(|record| record.offset),
        Err(ReadError::Backend(_)) => None,
        Err(ReadError::Moved(extent)) => panic!("nothing was lost, but {extent:?}"),
    });
    assert_eq!(read.await, Offset::new(1));
}

// --- Redis -----------------------------------------------------------------------------------------------------------

const TTL: Duration = Duration::from_secs(2);

/// Longer than a call without an answer.
const LONG_TTL: Duration = Duration::from_secs(6);

/// Leases behind a proxy, and the same ones bypassing it.
async fn leases() -> (Proxy, RedisLeases, RedisLeases) {
    let (proxy, namespace) = (proxy(Server::Redis).await, fresh());
    let behind = RedisLeases::open(&format!("redis://{}", proxy.address()), &namespace, None).await.unwrap();
    let direct = RedisLeases::open(&Server::Redis.url(), &namespace, None).await.unwrap();
    (proxy, behind, direct)
}

fn lease(holder: &str) -> (LeaseName, Holder) {
    (LeaseName("balance/p1".into()), Holder(holder.into()))
}

#[tokio::test]
async fn a_lease_whose_grant_is_lost_is_nobodys_until_it_expires() {
    let (proxy, behind, direct) = leases().await;
    let ((name, ann), (_, bob)) = (lease("ann"), lease("bob"));
    proxy.make(Trouble::LoseReplies);
    let lost = ended(behind.acquire(&name, &ann, LONG_TTL, Epoch::NONE)).await.unwrap_err();
    assert_eq!(lost.effect, Effect::Unknown);
    assert_eq!(direct.list("").await.unwrap()[0].holder, ann, "it was granted all the same");
    proxy.make(Trouble::None);
    until("it expires", async || direct.acquire(&name, &bob, TTL, Epoch::NONE).await.unwrap()).await;
}

/// With late answers, with none, and when the server is gone: the old holder ends before a new one begins.
#[tokio::test]
async fn a_holder_stops_before_the_next_one_starts_whatever_the_network_does() {
    let (proxy, behind, direct) = leases().await;
    let troubles = [Trouble::Silence, Trouble::LoseReplies, Trouble::Refuse];
    for (round, trouble) in troubles.into_iter().enumerate() {
        let ((_, ann), (_, bob)) = (lease("ann"), lease("bob"));
        let name = LeaseName(format!("balance/p{round}").into());
        proxy.make(Trouble::Delay(Duration::from_millis(300)));
        let asked = Instant::now();
        let held =
            until("ann has it", async || behind.acquire(&name, &ann, TTL, Epoch::NONE).await.ok().flatten()).await;
        let epoch = held.epoch();
        let acting = async {
            let ended = act_while_held(&behind, held, asked, TTL, std::future::pending::<()>()).await;
            assert_eq!(ended, Ended::Lost);
            Instant::now()
        };
        let waiting = async {
            proxy.make(trouble);
            let next = until("bob has it", async || direct.acquire(&name, &bob, TTL, Epoch::NONE).await.unwrap()).await;
            (next.epoch(), Instant::now())
        };
        let (ended_at, (next, began_at)) = ended(async { futures::join!(acting, waiting) }).await;
        assert!(ended_at <= began_at + Duration::from_millis(20), "{trouble:?}: {:?} too late", ended_at - began_at);
        assert!(next > epoch);
        proxy.make(Trouble::None);
    }
}

#[tokio::test]
async fn leases_are_renewed_over_a_cut_connection() {
    let (proxy, behind, direct) = leases().await;
    let (name, ann) = lease("ann");
    let held = behind.acquire(&name, &ann, Duration::from_mins(1), Epoch::NONE).await.unwrap().unwrap();
    for _ in 0..5 {
        proxy.cut();
        until("it is renewed", async || behind.renew(&held, Duration::from_mins(1)).await.ok()).await;
    }
    assert_eq!(direct.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn in_silence_every_call_of_the_leases_ends() {
    let (proxy, behind, _direct) = leases().await;
    let (name, ann) = lease("ann");
    let [one, two] = [0, 1].map(|number| LeaseName(format!("{name}/{number}").into()));
    let held = behind.acquire(&one, &ann, Duration::from_mins(1), Epoch::NONE).await.unwrap().unwrap();
    let given_back = behind.acquire(&two, &ann, Duration::from_mins(1), Epoch::NONE).await.unwrap().unwrap();
    proxy.make(Trouble::Silence);
    let calls = async {
        futures::join!(
            async { behind.acquire(&name, &ann, TTL, Epoch::NONE).await.is_err() },
            async { behind.renew(&held, TTL).await.is_err() },
            async { behind.release(given_back).await.is_err() },
            async { behind.list("").await.is_err() },
        )
    };
    assert_eq!(ended(calls).await, (true, true, true, true));
}
