//! `bank rebuild` and `bank rollback`: have a balance service begin a job, and wait until it has ended.
//!
//! The job is the bank's and not this process's: the balance services carry it out together, and it goes on when nobody
//! watches it. So Ctrl-C ends the watching alone, and says how to look at the job and how to cancel it.
//!
//! The request that begins a job is sent once. If its answer is lost, be it by a proxy that answers with a 5xx of its
//! own instead, the job may have begun: a second request could begin another rebuild, or turn the rollback back. Only
//! looking is repeated, so a service that is started again meanwhile is no harm. The wait ends with the job, however
//! long that takes, or when nobody can be asked about it.

mod job;
mod report;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use balance_service::rebuild::look_again_after;
use clap::Args;
use indicatif::ProgressBar;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep};

use crate::console;
use crate::exit::Exit;
use crate::service::Service;
use crate::url::base_url;
use job::{Job, Jobs};

/// How long the service may give no status before the wait is given up: one that is started again is back sooner.
const AWAY_MAX: Duration = Duration::from_mins(1);

/// Who begins the job, and whether to wait for its end.
#[derive(Args, Debug)]
pub(crate) struct JobArgs {
    /// URL of a balance service
    #[arg(long, default_value = "http://127.0.0.1:8030", value_parser = base_url)]
    url: String,

    /// Return as soon as the job has begun
    #[arg(long)]
    no_wait: bool,
}

/// What the bank is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Build the projection anew, verify it, and switch queries to it.
    Rebuild,
    /// Switch queries back to the generation that is kept.
    Rollback,
}

impl Kind {
    /// Where it is asked for.
    const fn path(self) -> &'static str {
        match self {
            Self::Rebuild => "/balance/rebuild",
            Self::Rollback => "/balance/rebuild/rollback",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rebuild => "rebuild",
            Self::Rollback => "rollback",
        })
    }
}

/// Begins the job, waits for its end unless told not to, reports.
pub(crate) async fn run(kind: Kind, args: JobArgs) -> anyhow::Result<Exit> {
    Service::Balance.refuse_other(&args.url, "--url").await?;
    let jobs = Jobs::new(args.url)?;
    let job = jobs.begin(kind.path()).await?;
    if args.no_wait {
        let told = format!("the {kind} {} has begun; {}\n", job.id, jobs.hint());
        return Ok(console::print(&told, Exit::Done));
    }
    let bar = console::progress_bar(0, "{msg:11} {bar:40} {human_pos}/{human_len} events, {elapsed}");
    let ended = tokio::select! {
        biased;
        ended = watch(kind, &jobs, job, &bar) => ended,
        pressed = ctrl_c() => match pressed {
            Ok(()) => Err(anyhow!("the {kind} goes on without being watched; {}", jobs.hint())),
            Err(failure) => Err(failure).context("cannot wait for Ctrl-C"),
        },
    };
    bar.finish_and_clear();
    let job = ended?;
    Ok(console::print(&report::render(kind, &job), report::exit(&job)))
}

/// Looks at a job until it has ended.
async fn watch(kind: Kind, jobs: &Jobs, mut job: Job, bar: &ProgressBar) -> anyhow::Result<Job> {
    let mut answered = Instant::now();
    while job.finished_at.is_none() {
        show(bar, &job);
        sleep(look_again_after(job.partitions.len())).await;
        match jobs.look().await {
            Ok(seen) if seen.id != job.id => {
                bail!("the {kind} has ended, and another job has begun; the logs of the balance services tell its end")
            }
            Ok(seen) => (job, answered) = (seen, Instant::now()),
            Err(failure) if answered.elapsed() > AWAY_MAX => {
                let away = AWAY_MAX.as_secs();
                let told = format!("no status of the {kind} for {away} s, but it may go on; {}", jobs.hint());
                return Err(failure.context(told));
            }
            Err(_) => {}
        }
    }
    Ok(job)
}

fn show(bar: &ProgressBar, job: &Job) {
    bar.set_message(job.state_in_words());
    bar.set_length(job.partitions.iter().filter_map(|partition| partition.total).sum());
    bar.set_position(job.partitions.iter().map(|partition| partition.done).sum());
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::rebuild::job::Progress;
    use crate::rebuild::job::tests::{job_of, text_of};

    /// So many that the pause between two looks is longer than for a few.
    const MANY_PARTITIONS: usize = 64;

    #[tokio::test]
    async fn a_job_of_many_partitions_is_looked_at_less_often() {
        let ended = text_of("done", "\"2026-01-01T00:00:01Z\"", "null");
        let service = Router::new().route("/balance/rebuild/status", get(move || async move { ended }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jobs = Jobs::new(format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let mut server = JoinSet::new();
        server.spawn(axum::serve(listener, service).into_future());
        let partitions = (0..MANY_PARTITIONS).map(|_| Progress { done: 0, total: None }).collect();
        let running = Job { partitions, ..job_of("replaying", "null", "null") };
        let began = Instant::now();
        watch(Kind::Rebuild, &jobs, running, &ProgressBar::hidden()).await.unwrap();
        assert!(began.elapsed() >= look_again_after(MANY_PARTITIONS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_stays_away_ends_the_wait_and_not_the_job() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let jobs = Jobs::new(base.clone()).unwrap();
        let running = job_of("replaying", "null", "null");
        let failure = watch(Kind::Rollback, &jobs, running, &ProgressBar::hidden()).await.unwrap_err().to_string();
        assert!(failure.starts_with("no status of the rollback for 60 s, but it may go on; "), "{failure}");
        assert!(failure.contains(&format!("curl {base}/balance/rebuild/status")), "{failure}");
    }
}
