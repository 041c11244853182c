//! A rebuild of the whole projection, alone or under load.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::join;
use hyper::StatusCode;
use indicatif::ProgressBar;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::account::Accounts;
use super::check;
use super::connection::{Answer, Call, Connection};
use super::cpu::CpuMeter;
use super::load::Load;
use super::options::{LoadOptions, Target};
use super::order::Mix;
use super::progress;
use super::report::{Report, per_second};
use super::visibility::Watchers;

/// How often the job is polled.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a rebuild may take before the run gives up.
const REBUILD_TIME_MAX: Duration = Duration::from_hours(2);

/// The part of a job that is read.
#[derive(Deserialize)]
struct Job {
    state: String,
    finished_at: Option<String>,
    failure: Option<String>,
    partitions: Vec<Progress>,
}

#[derive(Deserialize)]
struct Progress {
    done: u64,
    total: Option<u64>,
}

/// What a rebuild did, and how long it took.
struct Rebuilt {
    events: u64,
    /// Until every partition had replayed.
    replayed: Duration,
    /// Until the new generation, verified, answered queries.
    switched: Duration,
}

/// Rebuilds under load at a rate, or with the bank idle if no rate is given.
pub(super) async fn measure(options: &LoadOptions) -> anyhow::Result<Report> {
    let Some(_) = options.rate else { return alone(options).await };
    let accounts = Accounts::open(options).await?;
    let cpu = CpuMeter::start();
    let watchers = Watchers::new(options, &accounts);
    let traffic = join(Load::new(Mix::All, options, &accounts).run(&options.target.url), watchers.run());
    let job = async {
        sleep(options.warmup()).await;
        rebuild(&options.target).await
    };
    let ((measured, ()), outcome) = join(traffic, job).await;
    let mut report = Report::of_load("rebuild", options, &measured, cpu.stop());
    watchers.tell(&mut report);
    tell(&outcome?, &mut report);
    report.check = Some(check::balances(&accounts, options).await?);
    Ok(report)
}

async fn alone(options: &LoadOptions) -> anyhow::Result<Report> {
    options.target.refuse_other_for_queries().await?;
    let cpu = CpuMeter::start();
    let rebuilt = rebuild(&options.target).await?;
    let mut report = Report::new("rebuild");
    report.cpu = cpu.stop();
    report.setup.insert("traffic", "none".to_owned());
    tell(&rebuilt, &mut report);
    Ok(report)
}

fn tell(rebuilt: &Rebuilt, report: &mut Report) {
    report.figures.extend([
        ("replayed_events", per_second(rebuilt.events, Duration::from_secs(1))),
        ("replayed_seconds", rebuilt.replayed.as_secs_f64()),
        ("replayed_events_per_second", per_second(rebuilt.events, rebuilt.replayed)),
        ("switched_seconds", rebuilt.switched.as_secs_f64()),
    ]);
}

async fn rebuild(target: &Target) -> anyhow::Result<Rebuilt> {
    let mut connection = Connection::new(&target.balance_url);
    let answer = connection.send(&Call::post("/balance/rebuild", String::new())).await?;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == StatusCode::ACCEPTED, "the rebuild did not start: {} {text}", answer.status);
    let began = Instant::now();
    let bar = progress::counted("replaying", 0);
    let mut replayed = None;
    while began.elapsed() < REBUILD_TIME_MAX {
        let job = read(&connection.send(&Call::get("/balance/rebuild/status".to_owned())).await?)?;
        let done = job.partitions.iter().map(|progress| progress.done).sum();
        show(&bar, &job, done);
        if replayed.is_none() && job.state != "replaying" {
            replayed = Some(began.elapsed());
        }
        if job.finished_at.is_some() {
            bar.finish_and_clear();
            ensure!(job.state == "done", "the rebuild ended as {}: {}", job.state, job.failure.unwrap_or_default());
            let switched = began.elapsed();
            return Ok(Rebuilt { events: done, replayed: replayed.unwrap_or(switched), switched });
        }
        sleep(LOOK_EVERY).await;
    }
    bail!("the rebuild took longer than {} s; see GET /balance/rebuild/status", REBUILD_TIME_MAX.as_secs())
}

fn read(answer: &Answer) -> anyhow::Result<Job> {
    serde_json::from_slice(&answer.body).context("cannot read the status of the rebuild")
}

fn show(bar: &ProgressBar, job: &Job, done: u64) {
    bar.set_length(job.partitions.iter().filter_map(|progress| progress.total).sum());
    bar.set_position(done);
}
