//! The oplog has rolled over: the forwarder's position in the store is gone.
//!
//! Rolling over a real oplog takes writes of its whole size, at least 990 MB. Instead MongoDB's own failpoint
//! `failCommand` returns the error of a rolled-over one, `ChangeStreamHistoryLost` (286): to the forwarders alone,
//! known by their `appName`, when they resume and when they read on.

use std::sync::Arc;

use crate::cluster::Plan;
use crate::failpoint::{self, Fault, Victim};
use crate::load::Load;
use crate::server::Server;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// The name of the forwarders at MongoDB.
const FORWARDER: &str = "cluster-forwarder";

/// `ChangeStreamHistoryLost`.
const HISTORY_LOST: Fault = Fault::Error(286);

/// What a forwarder logs when its position is lost.
const SAID: &str = "the store no longer knows the forwarder's position";

/// How many rounds there are.
const ROUNDS: usize = 3;

/// How many commands are acknowledged while no forwarder runs, and after that.
const ACKNOWLEDGED_BETWEEN: usize = 60;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let url = Server::Mongo.url_for(FORWARDER);
    let plan = Plan::new(name, Arc::clone(&tally)).with_kind(Kind::Forwarder, "BANK_STORE_URL", url);
    let mut cluster = plan.start().await;
    let mut load = Load::begin(&cluster).await;
    // Only the feed, not what else a forwarder reads when it starts.
    let feed = Victim { application: FORWARDER, collection: Some(format!("{}.events", cluster.namespace())) };
    for round in 0..ROUNDS {
        cluster.kill_all(Kind::Forwarder).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        failpoint::set(&feed, &["aggregate"], HISTORY_LOST, 1).await;
        cluster.start_all(Kind::Forwarder);
        cluster.wait_said(Kind::Forwarder, SAID, 2 * round + 1).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        load.wait_visible().await;
        // The forwarder's next read fails, and so does its attempt to resume.
        failpoint::set(&feed, &["getMore", "aggregate"], HISTORY_LOST, 2).await;
        cluster.wait_said(Kind::Forwarder, SAID, 2 * round + 2).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        load.wait_visible().await;
        tally.add(Count::Troubles, 2);
    }
    failpoint::clear().await;
    load.judge(cluster).await;
}
