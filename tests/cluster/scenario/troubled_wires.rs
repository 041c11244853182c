//! A proxy between the bank and each of its servers that cuts, loses, delays and falls silent.

use std::sync::Arc;
use std::time::Duration;

use shared::proxy::{Proxy, Trouble};
use tokio::time::sleep;

use crate::cluster::Plan;
use crate::load::Load;
use crate::server::Server;
use crate::tally::{Count, Tally};

/// How long a trouble lasts: longer than a lease lives.
const LASTS: Duration = Duration::from_millis(1_500);

/// The delay of each piece of an answer: far more than a round trip takes, less than any limit.
const DELAY: Duration = Duration::from_millis(50);

const TROUBLES: [Trouble; 4] = [Trouble::LoseReplies, Trouble::Silence, Trouble::Refuse, Trouble::Delay(DELAY)];

/// How many commands are acknowledged between two troubles.
const ACKNOWLEDGED_BETWEEN: usize = 20;

/// How often a connection is cut in a row, each time as soon as the bank works again.
const CUTS: usize = 3;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut plan = Plan::new(name, Arc::clone(&tally));
    let mut proxies = Vec::new();
    for server in Server::ALL {
        let proxy = Proxy::start(server.address()).await.expect("a port is free");
        plan = plan.with(server.setting(), server.url_at(proxy.address()));
        proxies.push(proxy);
    }
    let cluster = plan.start().await;
    let mut load = Load::begin(&cluster).await;
    for trouble in TROUBLES {
        for proxy in &proxies {
            proxy.make(trouble);
            load.in_full_flight(sleep(LASTS)).await;
            proxy.make(Trouble::None);
            tally.count(Count::Troubles);
            load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        }
        load.wait_visible().await;
    }
    for _ in 0..CUTS {
        for proxy in &proxies {
            proxy.cut();
            tally.count(Count::Troubles);
            load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        }
        load.wait_visible().await;
    }
    load.judge(cluster).await;
}
