//! A service that is started with another number of partitions refuses, and says what to do.

use std::sync::Arc;

use crate::cluster::{PARTITIONS, Plan};
use crate::load::Load;
use crate::service::Kind;
use crate::tally::Tally;

/// How many commands are acknowledged after each refusal.
const ACKNOWLEDGED_BETWEEN: usize = 20;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let cluster = Plan::new(name, tally).start().await;
    let mut load = Load::begin(&cluster).await;
    for kind in Kind::ALL {
        for other in [PARTITIONS - 1, PARTITIONS + 1] {
            let (code, said) = cluster.refusal(kind, "BANK_PARTITIONS", &other.to_string()).await;
            assert_eq!(code, Some(2), "{said}");
            let way_out = format!("has {PARTITIONS} partitions, not {other}: set --partitions {PARTITIONS} ");
            assert!(said.contains(&way_out) && said.contains("; or, to change the number, stop all of them"), "{said}");
            load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        }
    }
    load.judge(cluster).await;
}
