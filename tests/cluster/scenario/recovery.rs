//! How long a fault lasts, measured for docs/OPERATIONS.md: from the `kill -9` until commands are acknowledged again,
//! and until the projection shows everything acknowledged. What was killed is started again at once, and its start is
//! part of the time. Other scenarios do the same to the bank, and more, so this one is played only by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::{Cluster, Plan};
use crate::load::Load;
use crate::server::Server;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// How often each is killed: once is enough to measure.
const ROUNDS: usize = 1;

/// How many acknowledged commands prove that the bank works again: more than could have been under way at the kill.
const ACKNOWLEDGED: usize = 20;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut cluster = Plan::new(name, Arc::clone(&tally)).start().await;
    let mut load = Load::begin(&cluster).await;
    let mut lines = Vec::new();
    for server in Server::ALL {
        let mut line = Line::new(server.name());
        for _ in 0..ROUNDS {
            let killed = begin(&mut load).await;
            load.in_full_flight(server.kill()).await;
            tally.count(Count::ServerKills);
            server.up().await;
            line.add(killed, &mut load).await;
        }
        lines.push(line.to_string());
    }
    for kind in [Kind::Account, Kind::Forwarder, Kind::Balance] {
        let mut line = Line::new(kind.program());
        for _ in 0..ROUNDS {
            let killed = begin(&mut load).await;
            kill(&mut cluster, kind).await;
            line.add(killed, &mut load).await;
        }
        lines.push(line.to_string());
    }
    println!("killed: started again after, commands again after, view complete after (seconds)\n{}", lines.join("\n"));
    load.judge(cluster).await;
}

/// Waits until the bank is healthy; returns the moment from which time counts.
async fn begin(load: &mut Load) -> Instant {
    load.acknowledge(ACKNOWLEDGED).await;
    load.wait_visible().await;
    Instant::now()
}

/// All services of the kind: the one that does the work is among them.
async fn kill(cluster: &mut Cluster, kind: Kind) {
    cluster.kill_all(kind).await;
    cluster.start_all(kind);
}

/// The measurements of one kind of fault.
struct Line {
    name: &'static str,
    times: Vec<[Duration; 3]>,
}

impl Line {
    const fn new(name: &'static str) -> Self {
        Self { name, times: Vec::new() }
    }

    /// Waits until the fault is over. What was killed has been started again before.
    async fn add(&mut self, killed: Instant, load: &mut Load) {
        let started = killed.elapsed();
        load.acknowledge(ACKNOWLEDGED).await;
        let commands = killed.elapsed();
        load.wait_visible().await;
        self.times.push([started, commands, killed.elapsed()]);
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        for times in &self.times {
            let [started, commands, visible] = times.map(|time| time.as_secs_f64());
            write!(f, "  {started:.1} {commands:.1} {visible:.1}")?;
        }
        Ok(())
    }
}
