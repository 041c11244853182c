//! Comparing heads from time to time: the only thing that sees a lost tail.
//!
//! If the last event of an account never reached a worker, no later event tells of the gap. So each worker compares the
//! heads of its streams with its documents now and then. What is behind is looked at again when the worker has written
//! everything the log held a while later, since an event may just be on its way, and a worker that is late has them by
//! the thousand; only a document that is still below the head of the first look is filled from the store. Every such
//! case is counted and logged: the log has lost events, or no forwarder brings it any.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use metrics::counter;
use shared::backends::Backends;
use shared::coordinate::Version;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Phase};
use shared::log::PartitionLog;
use shared::telemetry::metric::ACCOUNTS_HEALED;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::worker::{Worker, WorkerError, compare, fill};

/// How long an event may be on its way into the log before it counts as missed.
const GRACE: Duration = Duration::from_secs(5);

/// How long a worker that is late is waited for. Whoever is later, or has died, is looked at in the next round.
const LATE_MAX: Duration = Duration::from_mins(1);

/// How often it is asked how far a worker that is late has come.
const LATE_PAUSE: Duration = Duration::from_millis(500);

/// How many accounts are mended in one round; the next round goes on.
const SUSPECTS_MAX: usize = 500;

/// Compares again and again, or never.
pub(crate) async fn keep_reconciling<B: Backends>(worker: &Worker<B>, every: Option<Duration>) -> Infallible {
    let Some(every) = every else { return std::future::pending().await };
    loop {
        sleep(every).await;
        match reconcile(worker).await {
            Ok(0) => {}
            Ok(healed) => {
                warn!(generation = %worker.generation, partition = %worker.partition, healed,
                    "documents had missed events: the log has lost them, or no forwarder brings it any");
                counter!(ACCOUNTS_HEALED.name, "partition" => worker.partition.to_string()).increment(healed);
            }
            Err(failure) => debug!(partition = %worker.partition, %failure, "heads not compared, trying again later"),
        }
    }
}

async fn reconcile<B: Backends>(worker: &Worker<B>) -> Result<u64, WorkerError> {
    let checkpoint = worker.backends.index().checkpoint(worker.generation, worker.partition).await?;
    if !checkpoint.is_some_and(|checkpoint| matches!(checkpoint.phase, Phase::Live { .. })) {
        return Ok(0);
    }
    let suspects = suspects(worker).await?;
    if suspects.is_empty() {
        return Ok(0);
    }
    sleep(GRACE).await;
    if !has_written_the_log(worker).await? {
        debug!(partition = %worker.partition, "the worker is late, comparing heads again later");
        return Ok(0);
    }
    let accounts: Vec<AccountId> = suspects.keys().copied().collect();
    let loaded = worker.backends.index().load(worker.generation, &accounts).await?;
    let still = suspects.iter().zip(loaded).filter(|((_, head), loaded)| {
        let reached = loaded.balance.as_ref().map_or(Version::EMPTY, |balance| balance.version);
        reached < loaded.reachable(**head)
    });
    let lost: Vec<AccountId> = still.map(|((account, _), _)| *account).collect();
    if lost.is_empty() { Ok(0) } else { fill(worker, &lost).await }
}

/// Whether the worker has written all that stands in the log now, after it was waited for.
async fn has_written_the_log<B: Backends>(worker: &Worker<B>) -> Result<bool, WorkerError> {
    let extent = worker.backends.log().extent(worker.partition).await?;
    let waiting = async {
        loop {
            let checkpoint = worker.backends.index().checkpoint(worker.generation, worker.partition).await?;
            // In another life of the log the worker compares all heads by itself.
            let Some(checkpoint) = checkpoint.filter(|noted| noted.incarnation == extent.incarnation) else {
                return Ok(false);
            };
            if checkpoint.offset >= extent.last {
                return Ok(true);
            }
            sleep(LATE_PAUSE).await;
        }
    };
    timeout(LATE_MAX, waiting).await.unwrap_or(Ok(false))
}

/// Accounts whose document is below the store's head right now, with that head.
async fn suspects<B: Backends>(worker: &Worker<B>) -> Result<BTreeMap<AccountId, Version>, WorkerError> {
    let mut pairs = compare(worker);
    let mut suspects = BTreeMap::new();
    while let Some(pair) = pairs.next().await? {
        if pair.left > pair.right {
            suspects.insert(pair.account, pair.left);
        }
        if suspects.len() == SUSPECTS_MAX {
            break;
        }
    }
    Ok(suspects)
}
