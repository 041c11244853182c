//! `kill -9` of balance services in every state of a rebuild, and of every server once during one.
//!
//! States pass in milliseconds. So that kills can hit each of them, MongoDB delays every write of the job by a balance
//! service; a write still takes effect after the death of its sender.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::cluster::{Cluster, Plan};
use crate::failpoint::{self, Fault, Victim};
use crate::jobs::{Jobs, Request, STATES};
use crate::load::Load;
use crate::server::Server;
use crate::service::Kind;
use crate::tally::{Count, Tally};

/// The name of the balance services at MongoDB.
const BALANCE: &str = "cluster-balance";

/// Their commands to MongoDB.
const JOBS: Victim = Victim { application: BALANCE, collection: None };

/// How long a write of the job is delayed.
const NOTED_AFTER: Duration = Duration::from_millis(250);

/// How long a state may last before the kill, in milliseconds. First shorter than the delay, so that the conductor is
/// killed in the state itself; then also longer, so that kills come before and after the step.
const KILLED_AFTER: [std::ops::Range<u64>; 2] = [0..150, 0..350];

/// How long a rebuild may last before a server is killed, in milliseconds.
const SERVER_KILLED_AFTER: std::ops::Range<u64> = 0..350;

/// How many commands are acknowledged after each rebuild.
const ACKNOWLEDGED_BETWEEN: usize = 20;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let url = Server::Mongo.url_for(BALANCE);
    let plan = Plan::new(name, Arc::clone(&tally)).with_kind(Kind::Balance, "BANK_STORE_URL", url);
    let mut cluster = plan.start().await;
    let mut load = Load::begin(&cluster).await;
    let mut random = StdRng::seed_from_u64(4);
    let mut met = [0; STATES.len()];
    for round in 0..KILLED_AFTER.len() {
        for state in 0..STATES.len() {
            failpoint::set(&JOBS, &["findAndModify"], Fault::Late(NOTED_AFTER), None).await;
            if let Some(state) = kill_services(&mut cluster, state, round, &mut random).await {
                met[state] += 1;
            }
            failpoint::clear().await;
            load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
            load.wait_visible().await;
        }
    }
    println!("{name}: killed while {STATES:?}: {met:?}");
    assert!(met.iter().all(|met| *met > 0), "states in which nothing was killed: {STATES:?} {met:?}");
    for server in Server::ALL {
        let jobs = Jobs::of(&cluster);
        let job = jobs.begin(Request::Rebuild).await;
        sleep(Duration::from_millis(random.random_range(SERVER_KILLED_AFTER))).await;
        load.in_full_flight(server.kill()).await;
        tally.count(Count::ServerKills);
        server.up().await;
        jobs.wait_switched(&job).await;
        load.acknowledge(ACKNOWLEDGED_BETWEEN).await;
        load.wait_visible().await;
    }
    load.judge(cluster).await;
}

/// Kills balance services when a job is in this state, or soon after. The job is finished by those that are left, or
/// start. Returns the state in which it was just before.
async fn kill_services(cluster: &mut Cluster, state: usize, round: usize, random: &mut StdRng) -> Option<usize> {
    let jobs = Jobs::of(cluster);
    let job = jobs.begin(Request::Rebuild).await;
    jobs.wait_state(&job, state).await;
    sleep(Duration::from_millis(random.random_range(KILLED_AFTER[round].clone()))).await;
    let met = jobs.state(&job).await;
    if round == 0 {
        // The conductor is among them.
        cluster.kill_all(Kind::Balance).await;
        cluster.start_all(Kind::Balance);
    } else {
        kill_some(cluster, random).await;
    }
    jobs.wait_switched(&job).await;
    cluster.wait_ready().await;
    met
}

/// Kills one, two or all balance services, one after the other.
async fn kill_some(cluster: &mut Cluster, random: &mut StdRng) {
    let replicas: Vec<usize> =
        (0..cluster.services.len()).filter(|number| cluster.services[*number].kind() == Kind::Balance).collect();
    let victims = random.random_range(1..=replicas.len());
    for number in replicas.sample(random, victims) {
        cluster.kill_and_restart(*number).await;
    }
}
