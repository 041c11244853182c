//! Periodic comparison of heads: the only way to notice that the end of a stream was lost.
//!
//! If the last event of an account never reaches a worker, no later event reveals the gap. So each worker compares the
//! heads of its streams with its documents from time to time. A document that is behind may only have an event in
//! flight, and a late worker has thousands of those. So after a grace period, and once the worker has written
//! everything the log held then, the document is looked at again; only if it is still below the head seen first is it
//! refilled from the store. Every such case is counted and logged: the log has lost events, or no forwarder is running.
//!
//! A document above the store's head at both looks means that the store was set back. That is counted and logged as
//! well, and left to an operator.
//!
//! The partitions of a process compare one at a time (law U4 of [`crate::right_of_way`]), and each begins at a moment
//! of its own, so that they seldom wait for each other.
//!
//! A generation kept for a rollback is not compared: a rollback brings every document forward before it answers
//! queries.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use metrics::counter;
use shared::backends::Backends;
use shared::coordinate::Version;
use shared::event::StreamAfter;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Phase};
use shared::log::PartitionLog;
use shared::partition::{SLOTS, SlotRange};
use shared::store::EventStore;
use shared::telemetry::metric::{ACCOUNTS_HEALED, AHEAD_OF_STORE};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, warn};

use super::synchronise::{compare, fill};
use super::{Worker, WorkerError};
use crate::pages::Pair;

/// How long an event may take to reach the log before it counts as missed.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait for a late worker. One that takes longer, or has died, is left to the next round.
const LATE_MAX: Duration = Duration::from_mins(1);

/// How often the progress of a late worker is checked.
const LATE_PAUSE: Duration = Duration::from_millis(500);

/// How many accounts are looked at again in one round; the next round continues after them.
const SUSPECTS_MAX: usize = 500;

/// The pause before the next comparison, as a multiple of the time that the last one would have taken for the whole
/// bank: a store may have to walk through every event to list the heads, however short the configured interval is.
const REST_PER_ROUND: u32 = 20;

/// The longest pause for that reason.
const REST_MAX: Duration = Duration::from_mins(15);

/// The result of a round.
#[derive(Debug, Default, PartialEq, Eq)]
struct Round {
    /// Documents that had missed events and have them now.
    healed: u64,
    /// Documents at a version that the store does not have.
    ahead: u64,
    /// The account after which the next round begins; `None` if this one has seen them all.
    next_after: Option<AccountId>,
    /// How long it took to compare the heads.
    took: Duration,
}

/// Accounts whose document and stream differ at the first look.
#[derive(Debug, Default)]
struct HeadSuspects {
    /// Those below the store's head, with that head.
    behind: BTreeMap<AccountId, Version>,
    /// Those above it.
    ahead: Vec<Pair>,
    /// The last one, if there may be more.
    next_after: Option<AccountId>,
}

/// Compares repeatedly; never for `None`.
pub(crate) async fn keep_reconciling<B: Backends>(worker: &Worker<B>, every: Option<Duration>) -> Infallible {
    let Some(every) = every else { return std::future::pending().await };
    let (mut pause, mut after) = (first_pause(every, worker.slots), None);
    loop {
        sleep(pause).await;
        if worker.roster.is_on_standby(worker.generation) {
            continue;
        }
        match reconcile(worker, after).await {
            Ok(round) => {
                worker.report_round(&round);
                after = round.next_after;
                pause = every.max(rest(round.took, worker.slots));
            }
            Err(failure) => debug!(partition = %worker.partition, %failure, "heads not compared, trying again later"),
        }
    }
}

/// The pause before the first comparison. Partitions that begin to work together begin to compare one after the other,
/// spread over the whole interval.
fn first_pause(every: Duration, slots: SlotRange) -> Duration {
    every + every / u32::from(SLOTS) * u32::from(slots.start)
}

/// The rest after a comparison that took this long. The partitions take turns, so each of them rests for all.
fn rest(took: Duration, slots: SlotRange) -> Duration {
    let partitions = u32::from(SLOTS) / u32::from(slots.end - slots.start).max(1);
    REST_MAX.min(took.saturating_mul(REST_PER_ROUND * partitions))
}

impl<B: Backends> Worker<B> {
    fn report_round(&self, round: &Round) {
        let Round { healed, ahead, .. } = *round;
        if healed > 0 {
            warn!(generation = %self.generation, partition = %self.partition, healed,
                "documents had missed events: the log has lost them, or no forwarder is running");
            counter!(ACCOUNTS_HEALED.name, "partition" => self.partition.to_string()).increment(healed);
        }
        if ahead > 0 {
            error!(generation = %self.generation, partition = %self.partition, ahead,
                "documents are ahead of the store: it was set back, run bank verify");
            counter!(AHEAD_OF_STORE.name, "partition" => self.partition.to_string()).increment(ahead);
        }
    }
}

async fn reconcile<B: Backends>(worker: &Worker<B>, after: Option<AccountId>) -> Result<Round, WorkerError> {
    let checkpoint = worker.backends.index().checkpoint(worker.generation, worker.partition).await?;
    if !checkpoint.is_some_and(|checkpoint| matches!(checkpoint.phase, Phase::Live { .. })) {
        return Ok(Round::default());
    }
    let (suspects, took) = {
        let _turn = worker.right_of_way.comparison().await;
        let began = Instant::now();
        (suspects(worker, after).await?, began.elapsed())
    };
    let mut round = Round { next_after: suspects.next_after, took, ..Round::default() };
    if suspects.behind.is_empty() && suspects.ahead.is_empty() {
        return Ok(round);
    }
    sleep(GRACE).await;
    round.ahead = still_ahead(worker, &suspects.ahead).await?;
    if suspects.behind.is_empty() {
        return Ok(round);
    }
    if !has_written_the_log(worker).await? {
        debug!(partition = %worker.partition, "the worker is late, comparing heads again later");
        return Ok(round);
    }
    let accounts: Vec<AccountId> = suspects.behind.keys().copied().collect();
    let loaded = worker.backends.index().load(worker.generation, &accounts).await?;
    let still =
        suspects.behind.iter().zip(loaded).filter(|((_, head), loaded)| loaded.version() < loaded.reachable(**head));
    let lost: Vec<AccountId> = still.map(|((account, _), _)| *account).collect();
    if !lost.is_empty() {
        round.healed = fill(worker, &lost).await?;
    }
    Ok(round)
}

/// How many of these documents are at a version that the store still does not have, after time for commits in flight. A
/// stream that has grown past the head seen first was only in flight, however far it has come.
async fn still_ahead<B: Backends>(worker: &Worker<B>, ahead: &[Pair]) -> Result<u64, WorkerError> {
    if ahead.is_empty() {
        return Ok(0);
    }
    let questions: Vec<StreamAfter> =
        ahead.iter().map(|pair| StreamAfter { stream: pair.account, after: pair.wanted }).collect();
    let answers = worker.backends.store().read_streams(&questions, 1).await?;
    Ok(answers.iter().filter(|answer| answer.is_empty()).count() as u64)
}

/// Waits for the worker to write everything the log holds now; returns whether it did.
async fn has_written_the_log<B: Backends>(worker: &Worker<B>) -> Result<bool, WorkerError> {
    let extent = worker.backends.log().extent(worker.partition).await?;
    let waiting = async {
        loop {
            let checkpoint = worker.backends.index().checkpoint(worker.generation, worker.partition).await?;
            // In another incarnation of the log the worker compares all heads by itself.
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

/// Accounts whose document and stream differ right now.
async fn suspects<B: Backends>(worker: &Worker<B>, after: Option<AccountId>) -> Result<HeadSuspects, WorkerError> {
    let mut pairs = compare(worker, after);
    let mut suspects = HeadSuspects::default();
    while let Some(pair) = pairs.next().await? {
        match pair.wanted.cmp(&pair.found) {
            Ordering::Equal => continue,
            Ordering::Greater => _ = suspects.behind.insert(pair.account, pair.wanted),
            Ordering::Less => suspects.ahead.push(pair),
        }
        if suspects.behind.len() + suspects.ahead.len() == SUSPECTS_MAX {
            suspects.next_after = Some(pair.account);
            break;
        }
    }
    Ok(suspects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::partition::PartitionMap;

    #[test]
    fn a_bank_compares_for_a_twentieth_of_the_time_however_many_partitions_it_has() {
        let took = Duration::from_millis(100);
        for partitions in [1, 8, 64] {
            let map = PartitionMap::new(partitions).unwrap();
            let rest = rest(took, map.slots(map.all().next().unwrap()));
            assert_eq!(rest, took * u32::from(partitions) * REST_PER_ROUND, "{partitions} partitions");
        }
        assert_eq!(rest(Duration::from_hours(1), SlotRange::ALL), REST_MAX);
    }
}
