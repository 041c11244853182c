//! The log is emptied under load: its streams are purged, then deleted, then the server's data is lost.

use std::sync::Arc;

use async_nats::jetstream::{self, Context};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, Plan};
use crate::customers::{AGAIN_AFTER, PATIENCE};
use crate::load::Load;
use crate::server::Server;
use crate::tally::{Count, Tally};

/// How many rounds there are.
const ROUNDS: usize = 3;

/// How many commands are acknowledged between two faults.
const ACKNOWLEDGED_BETWEEN: usize = 60;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let cluster = Plan::new(name, Arc::clone(&tally)).start().await;
    let mut load = Load::begin(&cluster).await;
    for _ in 0..ROUNDS {
        let jetstream = connected().await;
        load.in_full_flight(purge(&jetstream, &cluster)).await;
        tally.count(Count::Troubles);
        go_on(&mut load).await;
        load.in_full_flight(delete(&jetstream, &cluster)).await;
        tally.count(Count::Troubles);
        go_on(&mut load).await;
        load.in_full_flight(Server::Nats.wipe()).await;
        tally.count(Count::ServerKills);
        Server::Nats.up().await;
        go_on(&mut load).await;
        wait_streams(&cluster).await;
    }
    load.judge(cluster).await;
}

pub(super) async fn purge(jetstream: &Context, cluster: &Cluster) {
    for stream in streams(cluster) {
        let stream = jetstream.get_stream(stream).await.expect("each partition has a stream");
        stream.purge().await.expect("a stream may be purged");
    }
}

async fn delete(jetstream: &Context, cluster: &Cluster) {
    for stream in streams(cluster) {
        jetstream.delete_stream(stream).await.expect("a stream may be deleted");
    }
}

async fn go_on(load: &mut Load) {
    load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
    load.wait_visible().await;
}

/// JetStream, as an operator reaches it.
pub(super) async fn connected() -> Context {
    jetstream::new(async_nats::connect(Server::Nats.url()).await.expect("NATS answers"))
}

fn streams(cluster: &Cluster) -> impl Iterator<Item = String> {
    (1..=cluster.partitions()).map(move |partition| cluster.stream(partition))
}

/// Waits until every partition has a stream again: even those without commands.
async fn wait_streams(cluster: &Cluster) {
    let jetstream = connected().await;
    for stream in streams(cluster) {
        let there = timeout(PATIENCE, async {
            while jetstream.get_stream(&stream).await.is_err() {
                sleep(AGAIN_AFTER).await;
            }
        });
        there.await.unwrap_or_else(|_| panic!("nobody made {stream} again"));
    }
}
