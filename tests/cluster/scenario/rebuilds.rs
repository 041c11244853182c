//! Rebuild after rebuild under load, each proved, switched, and rolled back once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join;
use tokio_util::sync::CancellationToken;

use crate::alias;
use crate::cluster::{Cluster, Plan};
use crate::jobs::{Jobs, Request};
use crate::load::Load;
use crate::tally::Tally;

/// How many rebuilds.
const ROUNDS: usize = 3;

/// How many commands are acknowledged after each switch.
const ACKNOWLEDGED_BETWEEN: usize = 60;

/// How long a command may take to become visible meanwhile. A switch stops the view for less than a second; the rest
/// is for slow machines.
const LAG_MAX: Duration = Duration::from_mins(1);

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let cluster = Plan::new(name, tally).start().await;
    let mut load = Load::begin(&cluster).await;
    let stop = CancellationToken::new();
    let measured = load.pulse().measure(stop.clone());
    let rebuilt = async {
        rebuild_again_and_again(&cluster, &mut load).await;
        stop.cancel();
    };
    let ((), mut lags) = join(rebuilt, measured).await;
    lags.sort_unstable();
    let worst = lags.last().copied().expect("the lag was measured");
    println!("{name}: lag in the middle {:?}, at worst {worst:?}, of {}", lags[lags.len() / 2], lags.len());
    assert!(worst < LAG_MAX, "a command was visible after {worst:?}");
    load.judge(cluster).await;
}

async fn rebuild_again_and_again(cluster: &Cluster, load: &mut Load) {
    let (jobs, alias) = (Jobs::of(cluster), cluster.alias_url());
    for _ in 0..ROUNDS {
        let before = alias::behind(&alias).await;
        load.in_full_flight(carry_out(&jobs, Request::Rebuild)).await;
        let after = alias::behind(&alias).await;
        assert_ne!(after, before, "the alias was turned");
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        load.in_full_flight(carry_out(&jobs, Request::Rollback)).await;
        assert_eq!(alias::behind(&alias).await, before, "the alias was turned back");
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
    }
}

/// Begins a job, and waits until it has switched.
pub(super) async fn carry_out(jobs: &Jobs, request: Request) {
    let job = jobs.begin(request).await;
    jobs.wait_switched(&job).await;
}
