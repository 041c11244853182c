//! Services that are frozen for longer than a lease lives, and wake up as if nothing had happened.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::Plan;
use crate::load::Load;
use crate::service::Kind;
use crate::tally::Tally;

/// How often each of the seven services is frozen.
const ROUNDS: usize = 3;

/// Which services are frozen together: one of each kind, so that each has a replica that takes over.
const TOGETHER: [&[usize]; 3] = [&[0, 2, 4], &[1, 3, 5], &[6]];

/// How many acknowledgements lie between two freezes.
const ACKNOWLEDGED_BETWEEN: std::ops::Range<usize> = 1..60;

/// What services log that wake up without the leases they held. One of the forwarders leads, and both are frozen in
/// every round; every balance service holds the lease of its own name, and with it those of its partitions.
const SAID: [(Kind, &str); 2] = [(Kind::Forwarder, "lease lost"), (Kind::Balance, "lease lost")];

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut cluster = Plan::new(name, tally).start().await;
    let mut load = Load::begin(&cluster).await;
    let mut random = StdRng::seed_from_u64(2);
    for round in 0..ROUNDS {
        load.request_rebuild(&cluster, round).await;
        for together in TOGETHER {
            load.acknowledge(random.random_range(ACKNOWLEDGED_BETWEEN)).await;
            load.in_full_flight(cluster.make_zombies(together)).await;
        }
        load.wait_visible().await;
    }
    for (kind, said) in SAID {
        cluster.wait_said(kind, said, ROUNDS).await;
    }
    load.judge(cluster).await;
}
