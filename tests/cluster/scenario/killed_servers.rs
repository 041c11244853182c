//! `kill -9` of every server in turn, and servers that are frozen, under load and rebuilds; the services are left
//! alone, except the account services once.

use std::sync::Arc;

use super::emptied_leases::forget_leases;
use crate::cluster::{Cluster, Plan, ZOMBIE_PAUSE};
use crate::load::Load;
use crate::server::Server;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// How often the servers are killed, one group after the other.
const ROUNDS: usize = 5;

/// What is killed together: leases and log at once.
const TOGETHER: [&[Server]; 2] = [&[Server::Mongo], &[Server::Nats, Server::Redis]];

/// Elasticsearch, which takes long to start, is killed too in one round of this many.
const ELASTIC_EVERY: usize = 3;

/// How many commands are acknowledged between two kills.
const ACKNOWLEDGED_BETWEEN: usize = 40;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut cluster = Plan::new(name, Arc::clone(&tally)).start().await;
    let mut load = Load::begin(&cluster).await;
    for round in 0..ROUNDS {
        load.request_rebuild(&cluster, round).await;
        for together in TOGETHER {
            kill(&mut load, &tally, together).await;
        }
        if round % ELASTIC_EVERY == 0 {
            kill(&mut load, &tally, &[Server::Elastic]).await;
        }
        if round == 0 {
            reopen_with_the_store_alone(&mut cluster, &mut load).await;
        }
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        forget_leases().await;
        tally.count(Count::Troubles);
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        let frozen = Server::ALL[round % Server::ALL.len()];
        frozen.pause().await;
        load.in_full_flight(tokio::time::sleep(ZOMBIE_PAUSE)).await;
        frozen.up().await;
        tally.count(Count::Troubles);
        load.wait_visible().await;
    }
    load.judge(cluster).await;
}

/// Account services that are started while log and leases are away take commands all the same, and the balance services
/// stay ready for queries.
async fn reopen_with_the_store_alone(cluster: &mut Cluster, load: &mut Load) {
    let away = [Server::Nats, Server::Redis];
    for server in away {
        server.kill().await;
    }
    cluster.kill_all(Kind::Account).await;
    cluster.start_all(Kind::Account);
    load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
    load.wait_shown_without(&["log", "leases"]).await;
    for server in away {
        server.up().await;
    }
}

/// `kill -9` of servers at work, all of which come back on their data.
async fn kill(load: &mut Load, tally: &Tally, servers: &[Server]) {
    load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
    for server in servers {
        load.in_full_flight(server.kill()).await;
        tally.count(Count::ServerKills);
    }
    for server in servers {
        server.up().await;
    }
}
