//! `kill -9` of every service in turn, again and again, under load.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::Plan;
use crate::load::Load;
use crate::tally::Tally;

/// How often each of the seven services is killed.
const ROUNDS: usize = 13;

/// How many acknowledgements lie between two kills: so some kills come soon after a start, some under full load.
const ACKNOWLEDGED_BETWEEN: std::ops::Range<usize> = 1..60;

/// In one round of this many the projection is waited for, so that it is not always just starting.
const VISIBLE_EVERY: usize = 3;

/// One round of this many begins with a rebuild, so that kills hit it at work.
const REBUILD_EVERY: usize = 3;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut cluster = Plan::new(name, tally).start().await;
    let mut load = Load::begin(&cluster).await;
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..ROUNDS {
        if round % VISIBLE_EVERY == 0 {
            cluster.wait_ready().await;
            load.wait_visible().await;
        }
        if round % REBUILD_EVERY == 0 {
            load.request_rebuild(&cluster, round).await;
        }
        for number in 0..cluster.services.len() {
            load.acknowledge(random.random_range(ACKNOWLEDGED_BETWEEN)).await;
            cluster.kill_and_restart(number).await;
        }
    }
    load.judge(cluster).await;
}
