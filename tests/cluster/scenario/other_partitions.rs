//! Another number of partitions: whatever is started with it is refused and says what to do. An operator who does that
//! has it, while customers go on, and what was noted by partition before disturbs nothing: no checkpoint, no lease, no
//! generation kept for a rollback, and no stream that was forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::emptied_log::connected;
use super::rebuilds::carry_out;
use crate::alias;
use crate::cluster::{Cluster, PARTITIONS_SETTING, Plan};
use crate::customers::{AGAIN_AFTER, ASK, PATIENCE};
use crate::jobs::{FAULTS, Jobs, Request};
use crate::load::Load;
use crate::server::Server;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// The number of partitions at first.
const FIRST: usize = 8;

/// A change of that number.
struct Change {
    to: usize,
    /// The streams of the partitions up to this one are deleted. The bank may have more.
    deleted: usize,
}

/// All changes, one after the other. The streams of eight partitions are forgotten when those go, and are found, with
/// what they held, when those come back.
const CHANGES: [Change; 4] = [
    Change { to: 12, deleted: 8 },
    Change { to: 4, deleted: 4 },
    Change { to: 12, deleted: 4 },
    Change { to: 8, deleted: 12 },
];

/// How many accounts there are: some dozens for each partition.
const ACCOUNTS: usize = 240;

/// How many commands are acknowledged between two steps.
const ACKNOWLEDGED_BETWEEN: usize = 60;

/// The jobs between two changes: to the kept generation and back, and a rebuild that is rolled back. So the same
/// generation answers at every change, with its checkpoints of every number of partitions before, and another one is
/// kept.
const JOBS: [Request; 4] = [Request::Rollback, Request::Rollback, Request::Rebuild, Request::Rollback];

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut cluster = Plan::new(name, Arc::clone(&tally)).divided(FIRST).start().await;
    let mut load = Load::begin_with(&cluster, ACCOUNTS).await;
    let (jobs, alias) = (Jobs::of(&cluster), cluster.alias_url());
    for request in [Request::Rebuild, Request::Rollback] {
        carry_out(&jobs, request).await;
    }
    let answering = alias::behind(&alias).await;
    let mut former_lives = BTreeSet::new();
    for change in &CHANGES {
        let from = cluster.partitions();
        former_lives.extend(lives(&cluster).await.into_iter().flatten());
        make(&mut cluster, &mut load, change).await;
        tally.count(Count::Troubles);
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        cluster.wait_fair().await;
        wait_followed(&cluster, &former_lives).await;
        load.wait_visible().await;
        verify(&cluster).await;
        for kind in Kind::ALL {
            assert_refused(&cluster, kind, from).await;
        }
        for request in JOBS {
            load.in_full_flight(carry_out(&jobs, request)).await;
        }
        assert_eq!(alias::behind(&alias).await, answering, "the last job went back to it");
    }
    load.judge(cluster).await;
}

/// The steps of docs/OPERATIONS.md. When the log goes, it holds commands that the view lacks, and lacks commands that
/// the store holds.
async fn make(cluster: &mut Cluster, load: &mut Load, change: &Change) {
    cluster.stop_all(Kind::Balance).await;
    load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
    cluster.stop_all(Kind::Forwarder).await;
    load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
    delete_streams(cluster, change.deleted).await;
    assert_refused(cluster, Kind::Forwarder, change.to).await;
    delete_register(cluster).await;
    cluster.divide(change.to);
    cluster.start_all(Kind::Forwarder);
    cluster.start_all(Kind::Balance);
    cluster.wait_ready().await;
    for number in 0..cluster.services.len() {
        if cluster.services[number].kind() == Kind::Account {
            cluster.stop_one(number).await;
            cluster.services[number].start();
            cluster.services[number].wait_ready().await;
        }
    }
}

/// Deletes the streams of the partitions up to this one.
async fn delete_streams(cluster: &Cluster, deleted: usize) {
    let jetstream = connected().await;
    for partition in 1..=deleted {
        jetstream.delete_stream(cluster.stream(partition)).await.expect("a stream may be deleted");
    }
}

/// Deletes the number of partitions that the bank has agreed on.
async fn delete_register(cluster: &Cluster) {
    let client = Client::with_uri_str(Server::Mongo.url()).await.expect("a URL of MongoDB");
    let registers = client.database(cluster.namespace()).collection::<Document>("registers");
    let deleted = registers.delete_one(doc! { "_id": "partitions" }).await.expect("MongoDB answers");
    assert_eq!(deleted.deleted_count, 1, "the number was agreed on");
}

/// A service with this number of partitions ends at once, and says what to do.
async fn assert_refused(cluster: &Cluster, kind: Kind, asked: usize) {
    let stored = cluster.partitions();
    let (code, said) = cluster.refusal(kind, PARTITIONS_SETTING, &asked.to_string()).await;
    assert_eq!(code, Some(2), "{said}");
    let way_out = format!("has {stored} partitions, not {asked}: set --partitions {stored} ");
    let change = "; or, to change the number, stop all of them but account services, delete";
    assert!(said.contains(&way_out) && said.contains(change), "{said}");
}

/// Which incarnation the checkpoint of each partition of the active generation names; `None` where there is none yet.
async fn lives(cluster: &Cluster) -> Vec<Option<String>> {
    let work = format!("{}-work", alias::behind(&cluster.alias_url()).await);
    let mut lives = Vec::new();
    for partition in 1..=cluster.partitions() {
        let found = ASK.get(format!("{work}/_doc/checkpoint-{partition}")).send().await.expect("Elasticsearch answers");
        let checkpoint: Value = found.json().await.expect("a document, or that there is none");
        lives.push(checkpoint["_source"]["checkpoint"]["incarnation"].as_str().map(str::to_owned));
    }
    lives
}

/// Waits until a worker of each partition follows an incarnation that no partition had before the change.
async fn wait_followed(cluster: &Cluster, former: &BTreeSet<String>) {
    let mut now = Vec::new();
    let followed = timeout(PATIENCE, async {
        loop {
            now = lives(cluster).await;
            if now.iter().all(|life| life.as_ref().is_some_and(|life| !former.contains(life))) {
                return;
            }
            sleep(AGAIN_AFTER).await;
        }
    });
    followed.await.unwrap_or_else(|_| panic!("checkpoints of former partitions are followed: {now:?} of {former:?}"));
}

/// Has a balance service compare every document with the store while customers go on.
async fn verify(cluster: &Cluster) {
    let url = format!("{}/balance/verify", cluster.views()[0]);
    let answer = ASK.post(url).timeout(PATIENCE).send().await.expect("a balance service answers");
    assert_eq!(answer.status(), StatusCode::OK);
    let told = answer.text().await.expect("the comparison ends");
    let events = told.lines().filter_map(|line| line.strip_prefix("data:"));
    let events = events.map(|data| serde_json::from_str::<Value>(data).expect("events are JSON"));
    let reports: Vec<Value> = events.filter(|event| event["found"].is_object()).collect();
    assert_eq!(reports.len(), cluster.partitions(), "{told}");
    for report in reports {
        for fault in FAULTS {
            assert_eq!(report["found"][fault], 0, "{report}");
        }
    }
}
