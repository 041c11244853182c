//! The oplog has rolled over: the forwarder's place in the store is no more.
//!
//! To roll over a real oplog takes writes of its whole size, 990 MB at least. Here MongoDB says what it would say then,
//! `ChangeStreamHistoryLost` (286), by its own failpoint `failCommand`: to the forwarders alone, known by their
//! `appName`, when they resume, and when they read on.

use std::sync::Arc;

use crate::cluster::Plan;
use crate::failpoint::{self, Fault, Victim};
use crate::load::Load;
use crate::server::Server;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// What the forwarders are called.
const FORWARDER: &str = "cluster-forwarder";

/// `ChangeStreamHistoryLost`.
const HISTORY_LOST: Fault = Fault::Error(286);

/// What a forwarder says when its place is lost.
const SAID: &str = "the store no longer knows the forwarder's position";

/// How often everything is done.
const ROUNDS: usize = 3;

/// How many commands are acknowledged while nobody forwards, and behind that.
const ACKNOWLEDGED_BETWEEN: usize = 60;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let url = Server::Mongo.url_for(FORWARDER);
    let plan = Plan::new(name, Arc::clone(&tally)).with_kind(Kind::Forwarder, "BANK_STORE_URL", url);
    let mut cluster = plan.start().await;
    let mut load = Load::begin(&cluster).await;
    // The feed, and nothing else that a forwarder asks when it starts.
    let feed = Victim { application: FORWARDER, collection: Some(format!("{}.events", cluster.namespace())) };
    for round in 0..ROUNDS {
        cluster.kill_all(Kind::Forwarder).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        failpoint::set(&feed, &["aggregate"], HISTORY_LOST, 1).await;
        cluster.start_all(Kind::Forwarder);
        cluster.wait_said(Kind::Forwarder, SAID, 2 * round + 1).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        load.wait_visible().await;
        // The forwarder asks for more, which fails, and then to resume, which fails too.
        failpoint::set(&feed, &["getMore", "aggregate"], HISTORY_LOST, 2).await;
        cluster.wait_said(Kind::Forwarder, SAID, 2 * round + 2).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        load.wait_visible().await;
        tally.add(Count::Troubles, 2);
    }
    failpoint::clear().await;
    load.judge(cluster).await;
}
