//! The index that answers queries is deleted while the bank is open: the bank notices, and builds it again from the
//! store.

use std::sync::Arc;

use tokio::time::{sleep, timeout};

use crate::alias;
use crate::cluster::{Cluster, Plan};
use crate::customers::{AGAIN_AFTER, ASK, PATIENCE};
use crate::jobs::{Jobs, Request};
use crate::load::Load;
use crate::tally::{Count, Tally};

/// How often the index is deleted while no rebuild runs, and how often while one does.
const ROUNDS: usize = 2;

/// How many commands are acknowledged between two deletions.
const ACKNOWLEDGED_BETWEEN: usize = 40;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let cluster = Plan::new(name, Arc::clone(&tally)).start().await;
    let mut load = Load::begin(&cluster).await;
    let (jobs, alias) = (Jobs::of(&cluster), cluster.alias_url());
    load.expect_absence();
    for _ in 0..ROUNDS {
        let deleted = load.in_full_flight(delete_active(&alias)).await;
        tally.count(Count::Troubles);
        // Customers are still served.
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        wait_back(&cluster, &deleted).await;
        let job = jobs.status().await;
        assert_eq!(jobs.wait_switched(&job).await["purpose"], "restore");
        load.wait_visible().await;
        // A rebuild that has not switched yet goes on without a predecessor; one that is just switching may give up.
        jobs.begin(Request::Rebuild).await;
        let deleted = load.in_full_flight(delete_active(&alias)).await;
        tally.count(Count::Troubles);
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        wait_back(&cluster, &deleted).await;
        jobs.wait_until(|status| status["state"] == "done").await;
        load.wait_visible().await;
    }
    load.judge(cluster).await;
}

/// Deletes the index behind the alias by its own name, as anyone with a console can, and returns its URL.
async fn delete_active(alias: &str) -> String {
    let index = alias::behind(alias).await;
    let deleted = ASK.delete(&index).send().await.expect("Elasticsearch answers");
    assert!(deleted.status().is_success(), "{index}: {}", deleted.status());
    index
}

/// Waits until the alias names an index again, and not the deleted one.
async fn wait_back(cluster: &Cluster, deleted: &str) {
    let alias = cluster.alias_url();
    let back = timeout(PATIENCE, async {
        while !alias::is_there(&alias).await {
            sleep(AGAIN_AFTER).await;
        }
    });
    back.await.unwrap_or_else(|_| panic!("nobody noticed that {deleted} is gone"));
    assert_ne!(alias::behind(&alias).await, deleted, "a deleted index stays gone");
}
