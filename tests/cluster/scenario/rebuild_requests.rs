//! Twenty rebuilds at once on all replicas, and rebuilds that are cancelled: one runs, and nothing of it stays behind.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use tokio::time::{sleep, timeout};

use crate::alias::{self, Indices};
use crate::cluster::{Cluster, Plan};
use crate::customers::{AGAIN_AFTER, PATIENCE};
use crate::jobs::{Jobs, Request};
use crate::load::Load;
use crate::tally::{Count, Tally};

/// How many requests are sent at once.
const REQUESTS: usize = 20;

/// How many rebuilds are cancelled.
const ROUNDS: usize = 4;

/// How many are begun for that at most: some are over before they can be cancelled.
const TRIES_MAX: usize = 40;

/// How long a rebuild runs before it is cancelled, in milliseconds: just begun, replaying, or later.
const CANCELLED_AFTER: std::ops::Range<u64> = 0..600;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let cluster = Plan::new(name, tally).start().await;
    let load = Load::begin(&cluster).await;
    let jobs = Jobs::of(&cluster);
    let mut random = StdRng::seed_from_u64(3);
    let (mut cancelled, mut tries) = (0, 0);
    while cancelled < ROUNDS {
        assert!(tries < TRIES_MAX, "of {tries} rebuilds only {cancelled} could be cancelled before they were over");
        tries += 1;
        let before = alias::behind(&cluster.alias_url()).await;
        let own = own_indices(&cluster.alias_url(), &before).await;
        let job = request_at_once(&cluster, &jobs).await;
        load.in_full_flight(sleep(Duration::from_millis(random.random_range(CANCELLED_AFTER)))).await;
        let (status, answer) = jobs.send(Request::Cancel, cancelled).await.expect("all services run");
        if status != StatusCode::OK {
            // Switching, or over.
            assert!(matches!(status, StatusCode::CONFLICT | StatusCode::NOT_FOUND), "{status} {answer}");
            jobs.wait_switched(&job).await;
            continue;
        }
        assert_eq!((&answer["state"], &answer["job"]), (&"cancelled".into(), &job["job"]), "{answer}");
        cancelled += 1;
        assert_eq!(alias::behind(&cluster.alias_url()).await, before, "a cancelled job turns nothing");
        wait_nothing_left(&cluster.alias_url(), &own).await;
        assert_eq!(jobs.status().await["state"], "cancelled", "nothing goes on");
    }
    load.wait_visible().await;
    load.judge(cluster).await;
}

/// Exactly one of many requests begins a job, and the others are told which one.
async fn request_at_once(cluster: &Cluster, jobs: &Jobs) -> serde_json::Value {
    let answers = join_all((0..REQUESTS).map(|number| jobs.send(Request::Rebuild, number))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("all services run")).collect();
    let (begun, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(status, _)| *status == StatusCode::ACCEPTED);
    let [(_, job)] = begun.as_slice() else { panic!("{} of {REQUESTS} requests began a rebuild", begun.len()) };
    for (status, answer) in refused {
        assert_eq!((status, &answer["code"]), (StatusCode::CONFLICT, &"rebuild_running".into()), "{answer}");
        assert_eq!(answer["running"]["job"], job["job"], "{answer}");
    }
    cluster.tally().count(Count::Rebuilds);
    job.clone()
}

/// The index behind the alias, its companion, and the counter of generations, each with its aliases.
async fn own_indices(alias: &str, behind: &str) -> Indices {
    let name = behind.rsplit('/').next().expect("an index has a name");
    let mut indices = alias::indices(alias).await;
    indices.retain(|index, _| index.starts_with(name) || index.ends_with("-state"));
    indices
}

/// Waits until there are these indices and aliases, and no other.
async fn wait_nothing_left(alias: &str, own: &Indices) {
    let mut now = Indices::new();
    let cleaned = timeout(PATIENCE, async {
        loop {
            now = alias::indices(alias).await;
            if now == *own {
                return;
            }
            sleep(AGAIN_AFTER).await;
        }
    });
    cleaned.await.unwrap_or_else(|_| panic!("a cancelled job leaves {now:?} where {own:?} were"));
}
