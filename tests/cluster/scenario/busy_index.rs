//! Elasticsearch is too busy for a share of all bulks, and takes no writes for a while.

use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::alias;
use crate::busy::BusyElastic;
use crate::cluster::Plan;
use crate::customers::ASK;
use crate::jobs::{Jobs, Request};
use crate::load::Load;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// How many rounds there are.
const ROUNDS: usize = 2;

/// How many commands are acknowledged meanwhile, and after that.
const ACKNOWLEDGED_BETWEEN: usize = 80;

/// How many bulks are refused while Elasticsearch is busy, of 100.
const REFUSED_PERCENT: usize = 60;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let elastic = BusyElastic::start().await;
    let plan = Plan::new(name, Arc::clone(&tally)).with_kind(Kind::Balance, "BANK_INDEX_URL", elastic.url());
    let cluster = plan.start().await;
    let mut load = Load::begin(&cluster).await;
    let (jobs, alias) = (Jobs::of(&cluster), cluster.alias_url());
    for _ in 0..ROUNDS {
        elastic.refuse(REFUSED_PERCENT);
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        load.wait_visible().await;
        let rebuild = jobs.begin(Request::Rebuild).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        elastic.refuse(0);
        jobs.wait_switched(&rebuild).await;
        load.wait_visible().await;
        tally.count(Count::Troubles);

        let index = alias::behind(&alias).await;
        set_read_only(&index, json!(true)).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        set_read_only(&index, Value::Null).await;
        load.wait_visible().await;
        tally.count(Count::Troubles);
    }
    println!("{name}: {} of {} bulks refused", elastic.refused(), elastic.asked());
    assert!(elastic.refused() > 0, "nothing was refused");
    load.judge(cluster).await;
}

/// What Elasticsearch does to an index whose disk is nearly full.
async fn set_read_only(index: &str, value: Value) {
    let block = json!({ "index.blocks.read_only_allow_delete": value });
    let set = ASK.put(format!("{index}/_settings")).json(&block).send().await.expect("Elasticsearch answers");
    assert_eq!(set.status(), StatusCode::OK);
}
