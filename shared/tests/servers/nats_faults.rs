//! A log whose streams are deleted, emptied, filled and flooded while it is written and read.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::future::join_all;
use shared::clock::Timestamp;
use shared::config::Namespace;
use shared::coordinate::{Offset, Position, Version};
use shared::event::{EncodedEvents, Recorded};
use shared::id::AccountId;
use shared::log::{
    Extent, Incarnation, NatsLog, NatsOpenError, NatsOptions, PartitionLog, PartitionReader, PublishError, ReadError,
};
use shared::partition::{Partition, PartitionMap};
use shared::store::FeedEntry;
use tokio::sync::watch;

use crate::nats::LATER;
use crate::own::{Own, Program, free_port, until, words};
use crate::server::{Server, fresh, ids};

pub(crate) const ONE: Partition = Partition::new(1);

pub(crate) async fn opened(url: &str, namespace: &Namespace, replicas: Option<u8>) -> Result<NatsLog, NatsOpenError> {
    let options = NatsOptions { url, replicas, ..NatsOptions::default() };
    NatsLog::open(options, namespace, PartitionMap::new(1).expect("one is a number of partitions"), ids()).await
}

async fn jetstream() -> Context {
    jetstream::new(async_nats::connect(Server::Nats.url()).await.expect("a NATS that answers"))
}

pub(crate) fn entry(version: u64) -> FeedEntry {
    let recorded = Recorded {
        stream: AccountId::from_bytes([1; 16]),
        first_version: Version::new(version),
        time: Timestamp::EPOCH,
        events: EncodedEvents { count: 1, json: Bytes::from(format!("[{{\"text\":\"{}\"}}]", "x".repeat(200))) },
    };
    FeedEntry { position: Position::Number(version), recorded }
}

/// What was published, by incarnation and offset: a reader may see nothing else.
type Published = Mutex<BTreeMap<(Box<str>, u64), u64>>;

/// What a reader has seen: an incarnation, an offset, and the number that was published.
type Seen = Mutex<Vec<(Box<str>, u64, u64)>>;

/// Publishes numbers without a pause until told to stop, and adopts the extent it is told, as a forwarder does.
async fn publish(log: &NatsLog, published: &Published, goes_on: &watch::Receiver<bool>) {
    let mut next = 1;
    let mut end = log.extent(ONE).await.expect("a log");
    while *goes_on.borrow() {
        let batch: Vec<FeedEntry> = (next..next + 10).map(entry).collect();
        match log.publish(ONE, &end.incarnation, end.last, &batch).await {
            Ok(last) => {
                let offsets = (end.last.get() + 1..).map(|offset| (end.incarnation.0.clone(), offset));
                published.lock().unwrap().extend(offsets.zip(next..next + 10));
                end.last = last;
                next += 10;
            }
            Err(PublishError::Conflict(extent)) => {
                // A shorter extent of the same incarnation has lost something: that incarnation ends, so that readers
                // notice.
                let is_shorter = extent.incarnation == end.incarnation && extent.last < end.last;
                end = if is_shorter { renewed(log, &extent.incarnation).await } else { extent };
            }
            // Its fate is unknown: look at the end, and rather leave numbers out than use them twice.
            Err(PublishError::Backend(_)) => {
                next += 10;
                end = until("the log answers", async || log.extent(ONE).await.ok()).await;
            }
            Err(full @ PublishError::Full { .. }) => panic!("{full}"),
        }
    }
}

pub(crate) async fn renewed(log: &NatsLog, life: &Incarnation) -> Extent {
    until("the partition is renewed", async || log.renew(ONE, life).await.ok()).await
}

/// Reads until told to stop: on from its place, or from the start of another incarnation that it learns of.
async fn read(log: &NatsLog, seen: &Seen, goes_on: &watch::Receiver<bool>) {
    let mut life = log.extent(ONE).await.expect("a log");
    life.last = Offset::START;
    while *goes_on.borrow() {
        let mut reader = match log.reader(ONE, &life.incarnation, life.last).await {
            Ok(reader) => reader,
            Err(ReadError::Moved(extent)) => {
                life = Extent { last: extent.trimmed, ..extent };
                continue;
            }
            Err(ReadError::Backend(_)) => continue,
        };
        while *goes_on.borrow() {
            match reader.next_batch(100).await {
                Ok(records) => {
                    for record in records {
                        assert_eq!(record.offset, life.last.next(), "a reader skipped or repeated");
                        life.last = record.offset;
                        let version = record.recorded.first_version.get();
                        seen.lock().unwrap().push((life.incarnation.0.clone(), record.offset.get(), version));
                    }
                }
                Err(ReadError::Moved(extent)) => {
                    assert_ne!((&extent.incarnation, extent.last), (&life.incarnation, life.last));
                    life = Extent { last: extent.trimmed, ..extent };
                    break;
                }
                Err(ReadError::Backend(_)) => {}
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_deleted_and_emptied_under_load_is_noticed_by_writer_and_reader() {
    let namespace = fresh();
    let (writing, reading) = join_pair(&namespace).await;
    let (stop, goes_on) = watch::channel(true);
    let (published, seen) = (Published::default(), Seen::default());
    let trouble = async {
        let jetstream = jetstream().await;
        let name = format!("{namespace}-balance-1");
        for round in 0..8 {
            let before = until("the log answers", async || reading.extent(ONE).await.ok()).await;
            // A late reader would miss a short incarnation as a whole.
            until("ten batches are there, and the reader is at this life", async || {
                let now = reading.extent(ONE).await.ok()?;
                let is_read = seen.lock().unwrap().last().is_some_and(|(life, ..)| *life == now.incarnation.0);
                let is_there = now.incarnation != before.incarnation || now.last.get() >= before.last.get() + 100;
                (is_read && is_there).then_some(())
            })
            .await;
            if round % 2 == 0 {
                jetstream.delete_stream(&name).await.expect("a stream that exists");
            } else {
                jetstream.get_stream(&name).await.expect("a stream").purge().await.expect("a stream that exists");
            }
            until("another life begins", async || {
                let now = reading.extent(ONE).await.ok()?;
                (now.incarnation != before.incarnation && now.last > Offset::START).then_some(())
            })
            .await;
        }
        stop.send(false).expect("somebody who listens");
    };
    futures::join!(publish(&writing, &published, &goes_on), read(&reading, &seen, &goes_on), trouble);

    let (published, seen) = (published.into_inner().unwrap(), seen.into_inner().unwrap());
    let lives: std::collections::BTreeSet<&str> = seen.iter().map(|(life, ..)| &**life).collect();
    assert!(lives.len() > 3, "the reader saw {} lives only", lives.len());
    for (life, offset, version) in &seen {
        // What was stored without an answer is not in the list.
        if let Some(right) = published.get(&(life.clone(), *offset)) {
            assert_eq!(version, right, "at {offset} of {life}");
        }
    }
}

/// Law N2: each renewal is taken at the first attempt, however fast records follow each other.
#[tokio::test]
async fn a_publisher_that_never_pauses_holds_up_no_renewal() {
    let (writing, renewing) = join_pair(&fresh()).await;
    let (stop, goes_on) = watch::channel(true);
    let published = Published::default();
    let renewals = async {
        for _ in 0..30 {
            let busy = until("records are there", async || {
                renewing.extent(ONE).await.ok().filter(|extent| extent.last.get() >= 100)
            })
            .await;
            let next = renewing.renew(ONE, &busy.incarnation).await.expect("a renewal at the first attempt");
            assert_ne!(next.incarnation, busy.incarnation);
        }
        stop.send(false).expect("somebody who listens");
    };
    futures::join!(publish(&writing, &published, &goes_on), renewals);
}

async fn join_pair(namespace: &Namespace) -> (NatsLog, NatsLog) {
    let open = || async { opened(&Server::Nats.url(), namespace, None).await.expect("a NATS that answers") };
    futures::join!(open(), open())
}

/// Bytes instead of records, as an operator may limit them.
#[tokio::test]
async fn a_stream_at_its_limit_of_bytes_pushes_back_and_evicts_nothing() {
    let namespace = fresh();
    let log = opened(&Server::Nats.url(), &namespace, None).await.unwrap();
    let jetstream = jetstream().await;
    let mut config = jetstream.get_stream(format!("{namespace}-balance-1")).await.unwrap().cached_info().config.clone();
    config.max_bytes = 50_000;
    jetstream.update_stream(config).await.unwrap();

    let mut end = log.extent(ONE).await.unwrap();
    let full = loop {
        let batch: Vec<FeedEntry> = (end.last.get() + 1..=end.last.get() + 10).map(entry).collect();
        match log.publish(ONE, &end.incarnation, end.last, &batch).await {
            Ok(last) => end.last = last,
            // The part of the batch that had room.
            Err(PublishError::Conflict(halved)) => end = halved,
            Err(outcome) => break outcome,
        }
        assert!(end.last.get() < 1_000, "it has no limit");
    };
    assert!(matches!(full, PublishError::Full { .. }), "{full:?}");
    let one = [entry(end.last.get() + 1)];
    let mut singly = log.publish(ONE, &end.incarnation, end.last, &one).await;
    while let Ok(last) = singly {
        end.last = last;
        singly = log.publish(ONE, &end.incarnation, end.last, &one).await;
    }
    assert!(matches!(singly, Err(PublishError::Full { .. })), "{singly:?}");
    assert_eq!(log.extent(ONE).await.unwrap(), end, "nothing was evicted, and nothing stored beyond what was told");

    assert!(log.trim(ONE, Offset::new(50), LATER).await.unwrap() > 0);
    log.publish(ONE, &end.incarnation, end.last, &one).await.unwrap();
}

/// A beginning needs room as well, and its own incarnation has none to give.
#[tokio::test]
async fn a_partition_without_room_for_a_beginning_is_renewed_at_the_cost_of_its_records() {
    let namespace = fresh();
    let log = opened(&Server::Nats.url(), &namespace, None).await.unwrap();
    let mut end = log.extent(ONE).await.unwrap();
    end.last = log.publish(ONE, &end.incarnation, end.last, &[entry(1), entry(2)]).await.unwrap();
    let jetstream = jetstream().await;
    let stream = jetstream.get_stream(format!("{namespace}-balance-1")).await.unwrap();
    let bytes = i64::try_from(stream.cached_info().state.bytes).unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_bytes = bytes + 1;
    jetstream.update_stream(config).await.unwrap();
    let full = log.publish(ONE, &end.incarnation, end.last, &[entry(3)]).await;
    assert!(matches!(full, Err(PublishError::Full { .. })), "{full:?}");

    let renewed = log.renew(ONE, &end.incarnation).await.unwrap();
    assert_ne!(renewed.incarnation, end.incarnation);
    assert_eq!((renewed.trimmed, renewed.last), (Offset::START, Offset::START));
    log.publish(ONE, &renewed.incarnation, renewed.last, &[entry(1)]).await.unwrap();
}

/// More than is sent ahead to a reader that does not read.
#[tokio::test]
async fn a_reader_that_stands_still_during_a_flood_skips_nothing() {
    const RECORDS: u64 = 80_000;
    let (log, reading) = join_pair(&fresh()).await;
    let mut end = log.extent(ONE).await.unwrap();
    let mut reader = reading.reader(ONE, &end.incarnation, Offset::START).await.unwrap();
    while end.last.get() < RECORDS {
        let batch: Vec<FeedEntry> = (end.last.get() + 1..=end.last.get() + 4_000).map(entry).collect();
        end.last = log.publish(ONE, &end.incarnation, end.last, &batch).await.unwrap();
    }
    let mut read = 0;
    while read < RECORDS {
        for record in reader.next_batch(5_000).await.unwrap() {
            read += 1;
            assert_eq!((record.offset.get(), record.recorded.first_version.get()), (read, read));
        }
    }
}

#[tokio::test]
async fn a_stream_kept_in_memory_is_refused() {
    let namespace = fresh();
    let log = opened(&Server::Nats.url(), &namespace, None).await.unwrap();
    drop(log);
    let jetstream = jetstream().await;
    let name = format!("{namespace}-balance-1");
    let mut config = jetstream.get_stream(&name).await.unwrap().cached_info().config.clone();
    jetstream.delete_stream(&name).await.unwrap();
    config.storage = jetstream::stream::StorageType::Memory;
    jetstream.create_stream(config).await.unwrap();
    let refusal = opened(&Server::Nats.url(), &namespace, None).await.unwrap_err().to_string();
    assert!(refusal.contains("is not stored in files"), "{refusal}");
}

/// As an operator may edit it; what is refused names the way back, after which the log is opened as before.
#[tokio::test]
async fn a_stream_that_was_changed_to_discard_messages_is_refused_with_the_way_back() {
    let namespace = fresh();
    drop(opened(&Server::Nats.url(), &namespace, None).await.unwrap());
    let jetstream = jetstream().await;
    let name = format!("{namespace}-balance-1");
    let sound = jetstream.get_stream(&name).await.unwrap().cached_info().config.clone();
    let (mut by_age, mut when_full) = (sound.clone(), sound.clone());
    by_age.max_age = Duration::from_hours(1);
    when_full.discard_new_per_subject = false;
    for (config, way_back) in [(by_age, "--max-age=0s"), (when_full, "--discard-per-subject")] {
        jetstream.update_stream(config).await.unwrap();
        let refusal = opened(&Server::Nats.url(), &namespace, None).await.unwrap_err().to_string();
        assert!(refusal.contains(&format!("nats stream edit {name} {way_back}")), "{refusal}");
    }
    jetstream.update_stream(sound).await.unwrap();
    opened(&Server::Nats.url(), &namespace, None).await.unwrap();
}

#[tokio::test]
async fn more_copies_than_servers_are_refused_with_the_setting() {
    let refusal = opened(&Server::Nats.url(), &fresh(), Some(3)).await.unwrap_err().to_string();
    assert!(refusal.contains("BANK_LOG_REPLICAS"), "{refusal}");
}

/// Three servers that know each other.
async fn cluster() -> Vec<Own> {
    let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let all: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let server = |number: usize| {
        let (route, all) = (routes[number], all.join(", "));
        Own::start(Program::Nats, move |folder, port| {
            let text = format!(
                "server_name: n{number}\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\ncluster {{ name: \
                 three, listen: \"127.0.0.1:{route}\", routes: [{all}] }}\n",
                folder.display(),
            );
            std::fs::write(folder.join("nats.conf"), text).expect("a file");
            words("--config nats.conf")
        })
    };
    join_all((0..3).map(server)).await
}

#[tokio::test]
async fn a_cluster_keeps_three_copies_and_goes_on_without_a_server() {
    let mut servers = cluster().await;
    let urls: Vec<String> = servers.iter().map(|server| format!("nats://{}", server.address())).collect();
    let namespace = fresh();
    let log = until("the cluster has a leader", async || opened(&urls.join(","), &namespace, None).await.ok()).await;
    assert_eq!(log.weaknesses().await, []);
    let mut end = log.extent(ONE).await.unwrap();
    for server in &mut servers {
        server.kill();
        let batch: Vec<FeedEntry> = (end.last.get() + 1..=end.last.get() + 10).map(entry).collect();
        end = until("it goes on", async || {
            match log.publish(ONE, &end.incarnation, end.last, &batch).await {
                Ok(last) => Some(Extent { last, ..end.clone() }),
                // An earlier attempt was stored.
                Err(PublishError::Conflict(extent)) if extent.incarnation == end.incarnation => Some(extent),
                Err(_) => None,
            }
        })
        .await;
        server.start_again().await;
    }
    let read = until("all is read", async || {
        let mut reader = log.reader(ONE, &end.incarnation, Offset::START).await.ok()?;
        let mut read = 0;
        while read < end.last.get() {
            read += reader.next_batch(100).await.ok()?.len() as u64;
        }
        Some(read)
    });
    assert_eq!(read.await, end.last.get());

    let namespace = fresh();
    let single = until("a leader is there", async || opened(&urls.join(","), &namespace, Some(1)).await.ok()).await;
    let weaknesses = single.weaknesses().await;
    assert_eq!((weaknesses[0].setting, weaknesses[0].found.as_str()), ("num_replicas", "1"));
}
