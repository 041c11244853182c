//! Redis is flushed under load, and its data removed. Epochs do not start over, and nothing goes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{sleep, timeout};

use crate::alias;
use crate::cluster::{Cluster, Plan};
use crate::customers::{AGAIN_AFTER, PATIENCE, get};
use crate::load::Load;
use crate::server::Server;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// How many rounds there are.
const ROUNDS: usize = 3;

/// How many commands are acknowledged between two faults.
const ACKNOWLEDGED_BETWEEN: usize = 40;

/// The epoch under which each partition was written last.
type Epochs = BTreeMap<usize, u64>;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut cluster = Plan::new(name, Arc::clone(&tally)).start().await;
    let mut load = Load::begin(&cluster).await;
    for _ in 0..ROUNDS {
        let before = epochs(&cluster).await;
        forget_leases().await;
        tally.count(Count::Troubles);
        load.in_full_flight(wait_higher(&cluster, &before)).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        load.wait_visible().await;
        let before = epochs(&cluster).await;
        load.in_full_flight(Server::Redis.wipe()).await;
        tally.count(Count::ServerKills);
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        Server::Redis.up().await;
        wait_higher(&cluster, &before).await;
        // A process that starts now finds nothing but the checkpoints.
        for number in 0..cluster.services.len() {
            if cluster.services[number].kind() == Kind::Balance {
                forget_leases().await;
                tally.count(Count::Troubles);
                cluster.kill_and_restart(number).await;
                load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
            }
        }
        cluster.wait_ready().await;
        load.wait_visible().await;
    }
    load.judge(cluster).await;
}

/// Removes every lease, although its holder still believes it holds it, and every epoch.
pub(super) async fn forget_leases() {
    let client = redis::Client::open(Server::Redis.url()).expect("a URL of Redis");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis answers");
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.expect("Redis may be flushed");
}

/// The external version of a checkpoint is its epoch.
async fn epochs(cluster: &Cluster) -> Epochs {
    let work = format!("{}-work", alias::behind(&cluster.alias_url()).await);
    let mut epochs = Epochs::new();
    for partition in 1..=cluster.partitions() {
        let checkpoint = get(&format!("{work}/_doc/checkpoint-{partition}")).await;
        epochs.insert(partition, checkpoint["_version"].as_u64().expect("a checkpoint has a version"));
    }
    epochs
}

/// Waits until every partition is written under a higher epoch than before, so a lower one was never granted.
async fn wait_higher(cluster: &Cluster, before: &Epochs) {
    let mut now = Epochs::new();
    let taken = timeout(PATIENCE, async {
        loop {
            now = epochs(cluster).await;
            assert!(before.iter().all(|(partition, epoch)| now[partition] >= *epoch), "from {before:?} to {now:?}");
            if before.iter().all(|(partition, epoch)| now[partition] > *epoch) {
                return;
            }
            sleep(AGAIN_AFTER).await;
        }
    });
    taken.await.unwrap_or_else(|_| panic!("epochs stay {now:?} where {before:?} were"));
}
