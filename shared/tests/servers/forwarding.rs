//! The forwarder on real servers: how it starts a bank, and how it goes on when the store has lost its position.

use std::time::Duration;

use forwarder::ForwarderConfig;
use metrics_exporter_prometheus::PrometheusBuilder;
use mongodb::bson::{Document, doc};
use shared::clock::Clock;
use shared::id::{AccountId, Ids};
use shared::lease::{Holder, RedisLeases};
use shared::log::{Extent, NatsLog, NatsOptions, PartitionLog, PartitionReader, ReadError};
use shared::partition::PartitionMap;
use shared::store::contract::plain_commit;
use shared::store::{EventStore, MongoStore, Registers};
use shared::telemetry::metric::FORWARDER_POSITIONS_LOST;
use tokio_util::sync::CancellationToken;

use crate::failover::Set;
use crate::listener::Listener;
use crate::mongo::Scratch;
use crate::own::until;
use crate::server::{Server, fresh, ids};

/// The rest of a bank beside its store.
struct Bank {
    store: MongoStore,
    log: NatsLog,
    leases: RedisLeases,
    partitions: PartitionMap,
    ids: Ids,
}

impl Bank {
    async fn of(store: MongoStore) -> Self {
        let (ids, namespace) = (ids(), fresh());
        let partitions = PartitionMap::new(4).expect("a number of partitions");
        let options = NatsOptions { url: &Server::Nats.url(), ..NatsOptions::default() };
        let log = NatsLog::open(options, &namespace, partitions, ids.clone()).await.expect("a NATS that answers");
        let leases = RedisLeases::open(&Server::Redis.url(), &namespace, None).await.expect("a Redis that answers");
        Self { store, log, leases, partitions, ids }
    }

    /// Runs a forwarder until the rest is done.
    async fn while_forwarding<T>(&self, rest: impl Future<Output = T>) -> T {
        let config = ForwarderConfig {
            holder: Holder("forwarder".into()),
            partitions: self.partitions,
            lease_ttl: Duration::from_secs(2),
            log_window: Duration::from_hours(24),
            trim_every: Duration::from_mins(1),
        };
        let shutdown = CancellationToken::new();
        let (store, log, leases) = (self.store.clone(), self.log.clone(), self.leases.clone());
        let forwarding = forwarder::run(config, store, log, leases, Clock::system(), shutdown.clone());
        let rest = async {
            let done = rest.await;
            shutdown.cancel();
            done
        };
        let (forwarded, done) = futures::join!(forwarding, rest);
        forwarded.expect("a forwarder that stops when it is told to");
        done
    }

    async fn begun(&self) {
        until("the forwarder has begun", async || {
            self.store.read_register("forwarder/checkpoint").await.expect("a store that answers").map(drop)
        })
        .await;
    }

    async fn append(&self) -> AccountId {
        let stream = self.ids.account();
        let commit = plain_commit(self.ids.commit(), &[(stream, 0)]);
        self.store.append(vec![commit]).await.remove(0).expect("a new stream");
        stream
    }

    async fn extents(&self) -> Vec<Extent> {
        let extents = self.partitions.all().map(|partition| self.log.extent(partition));
        futures::future::try_join_all(extents).await.expect("a log that answers")
    }

    /// Waits until a stream is published to its partition, in the present incarnation.
    async fn published(&self, stream: AccountId) {
        let partition = self.partitions.partition_of(&stream);
        until("it is published", async || {
            let life = self.log.extent(partition).await.ok()?;
            let mut reader = self.log.reader(partition, &life.incarnation, life.trimmed).await.ok()?;
            let records = reader.next_batch(1_000).await.ok()?;
            records.iter().any(|record| record.recorded.stream == stream).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_fresh_bank_starts_without_a_warning_and_its_first_commit_is_forwarded() {
    let listener = Listener::new(tracing::Level::INFO);
    let scratch = Scratch::new();
    let bank = Bank::of(scratch.opened().await).await;
    let before = bank.extents().await;
    let done = bank.while_forwarding(async {
        bank.begun().await;
        bank.published(bank.append().await).await;
    });
    Box::pin(done).await;
    let heard = listener.heard();
    assert!(heard.contains("forwarder starts at the head"), "{heard}");
    assert!(!heard.contains("WARN") && !heard.contains("ERROR"), "{heard}");
    for (now, before) in bank.extents().await.iter().zip(&before) {
        assert_eq!(now.incarnation, before.incarnation, "an empty partition was renewed");
    }
}

/// The oplog holds a megabyte, and more than that is written while no forwarder runs.
#[tokio::test]
async fn a_forwarder_whose_place_rolled_out_of_the_oplog_says_so_and_makes_readers_synchronise() {
    let set = Set::new(1, "--oplogSize 1 --syncdelay 1").await;
    let bank = Bank::of(set.opened().await).await;
    let done = bank.while_forwarding(async {
        bank.begun().await;
        bank.published(bank.append().await).await;
    });
    Box::pin(done).await;
    let before = bank.extents().await;
    let missed = bank.append().await;
    let client = mongodb::Client::with_uri_str(set.url()).await.expect("a URL");
    let (filler, oplog) =
        (client.database("filler").collection("filler"), client.database("local").collection::<Document>("oplog.rs"));
    let first = async || oplog.find_one(doc! {}).await.expect("an oplog").expect("it is never empty");
    let of_old = first().await;
    until("the oplog has rolled over", async || {
        let chunk: Vec<Document> = (0..20).map(|_| doc! { "text": "x".repeat(50_000) }).collect();
        filler.insert_many(chunk).await.expect("a server that takes it");
        let now = first().await.get_timestamp("ts").expect("a moment");
        (now.time > of_old.get_timestamp("ts").expect("a moment").time + 5).then_some(())
    })
    .await;

    let listener = Listener::new(tracing::Level::INFO);
    let recorder = PrometheusBuilder::new().build_recorder();
    let counting = metrics::set_default_local_recorder(&recorder);
    let done = bank.while_forwarding(async {
        until("every partition is renewed", async || {
            let now = bank.extents().await;
            now.iter().zip(&before).all(|(now, before)| now.incarnation != before.incarnation).then_some(())
        })
        .await;
        bank.published(bank.append().await).await;
    });
    Box::pin(done).await;
    drop(counting);
    let heard = listener.heard();
    assert!(heard.contains("the store no longer knows the forwarder's position"), "{heard}");
    let counted = recorder.handle().render();
    assert!(counted.contains(&format!("{} 1", FORWARDER_POSITIONS_LOST.name)), "{counted}");
    // What was missed is in the store, and readers of the log are told to look there.
    let partition = bank.partitions.partition_of(&missed);
    let old = &before[usize::from(partition.get()) - 1];
    let moved = bank.log.reader(partition, &old.incarnation, old.last).await;
    assert!(matches!(moved, Err(ReadError::Moved(_))), "a reader would not notice");
}
