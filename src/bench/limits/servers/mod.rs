//! The servers that the settings name, one after the other.

mod elastic;
mod mongo;
mod nats;
mod written;

use std::time::Duration;

use anyhow::{Context, anyhow};
use shared::clock::Clock;
use shared::config::{BackendSettings, IndexUrl, LogUrl, StoreUrl};
use shared::id::Ids;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::report::{Report, per_second};

/// How long one call may take. A server at its limit is slower than one at normal load.
const CALL_MAX: Duration = Duration::from_secs(30);

/// What the report says of a port without a server.
const EMBEDDED: &str = "embedded: no server to measure";

/// What every measurement gets.
struct Run {
    /// The name of everything that is written, and of nothing else.
    name: String,
    duration: Duration,
    clock: Clock,
    ids: Ids,
}

pub(super) async fn measure(backends: &BackendSettings, duration: Duration, report: &mut Report) -> anyhow::Result<()> {
    let clock = Clock::system();
    let ids = Ids::new(clock.clone());
    let name = format!("{}-limits-{}", backends.namespace, last_digits(&ids));
    let run = Run { name, duration, clock, ids };
    match &backends.store_url {
        StoreUrl::Embedded => drop(report.setup.insert("store", EMBEDDED.to_owned())),
        StoreUrl::Mongo(url) => mongo::measure(url, backends, &run, report).await.context("cannot measure MongoDB")?,
    }
    match &backends.log_url {
        LogUrl::Embedded => drop(report.setup.insert("log", EMBEDDED.to_owned())),
        LogUrl::Nats(url) => nats::measure(url, backends, &run, report).await.context("cannot measure NATS")?,
    }
    match &backends.index_url {
        IndexUrl::Embedded => drop(report.setup.insert("index", EMBEDDED.to_owned())),
        IndexUrl::Elastic(url) => {
            elastic::measure(url, backends, &run, report).await.context("cannot measure Elasticsearch")?;
        }
    }
    Ok(())
}

/// Enough of a new id to tell two runs apart; its first digits are the time.
fn last_digits(ids: &Ids) -> String {
    ids.commit().to_string().chars().rev().take(8).collect()
}

/// Waits for a call, but no longer than [`CALL_MAX`].
async fn within<T, E: Into<anyhow::Error>>(call: impl IntoFuture<Output = Result<T, E>>) -> anyhow::Result<T> {
    timeout(CALL_MAX, call).await.map_err(|_| anyhow!("no answer within {} s", CALL_MAX.as_secs()))?.map_err(Into::into)
}

/// Measures, and removes what was written whatever the outcome (law LI2).
async fn removed_behind(
    measuring: impl Future<Output = anyhow::Result<()>>,
    removing: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let measured = tokio::select! {
        biased;
        stopped = tokio::signal::ctrl_c() => stopped.map_err(Into::into).and(Err(anyhow!("interrupted"))),
        measured = measuring => measured,
    };
    let removed = removing.await.context("cannot remove what was written; its name contains -limits-");
    measured.and(removed)
}

/// Runs workers side by side until their time is over, and returns how much they did together per second. Each returns
/// how much it did, and finishes what it began.
async fn together<W>(workers: impl IntoIterator<Item = W>) -> anyhow::Result<f64>
where
    W: Future<Output = anyhow::Result<u64>> + Send + 'static,
{
    let began = Instant::now();
    let mut tasks: JoinSet<anyhow::Result<u64>> = workers.into_iter().collect();
    let mut done = 0;
    while let Some(worked) = tasks.join_next().await {
        done += worked.context("a task panicked")??;
    }
    Ok(per_second(done, began.elapsed()))
}
