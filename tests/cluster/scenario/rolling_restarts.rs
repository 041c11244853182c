//! Replicas stop gracefully and start again, one after the other, under load: every service gives back what it holds,
//! another one takes over, and the partitions are spread fairly again.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{LEASE_TTL, Plan};
use crate::load::Load;
use crate::service::Kind;
use crate::tally::Tally;

/// How often each of the seven services is restarted.
const ROUNDS: usize = 2;

/// How many commands are acknowledged while a service is away, and again when it is back.
const ACKNOWLEDGED_MEANWHILE: usize = 20;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut cluster = Plan::new(name, tally).start().await;
    let mut load = Load::begin(&cluster).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..ROUNDS {
        for number in 0..cluster.services.len() {
            let is_balance = cluster.services[number].kind() == Kind::Balance;
            load.in_full_flight(cluster.stop_one(number)).await;
            if is_balance {
                slowest = slowest.max(cluster.wait_fair().await);
            }
            load.acknowledge(ACKNOWLEDGED_MEANWHILE).await;
            cluster.services[number].start();
            cluster.services[number].wait_ready().await;
            if is_balance {
                slowest = slowest.max(cluster.wait_fair().await);
            }
            load.acknowledge(ACKNOWLEDGED_MEANWHILE).await;
        }
        load.wait_visible().await;
    }
    println!("partitions were spread fairly again within {slowest:.1?}; a lease lives {LEASE_TTL:.1?}");
    load.judge(cluster).await;
}
