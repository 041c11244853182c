//! Checking the active generation, partition by partition, and repairing it on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream;
use futures::{Stream, StreamExt};
use metrics::counter;
use shared::backends::Backends;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{ApplyError, BalanceIndex, Generation};
use shared::partition::{Partition, PartitionMap};
use shared::telemetry::metric::DOCUMENTS_REPAIRED;
use tracing::warn;

use super::PARTITIONS_AT_ONCE;
use super::report::{Fault, Finding, PartitionReport};
use super::walk::{Comparison, PartitionWalk};
use crate::repair::{forget, repair};
use crate::right_of_way::RightOfWay;

/// How often a partition is compared when queries are switched to another generation each time.
const SWITCHES_MAX: usize = 3;

/// How often a check looks whether queries were switched.
const SWITCH_LOOK_EVERY: Duration = Duration::from_secs(1);

/// What to check, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// How long a difference may be due to events in flight (law P2); zero if none can be.
    pub patience: Duration,
    /// Whether to repair what is wrong (law P4).
    pub repair: bool,
}

/// How many accounts a running check has looked at. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// How many accounts were looked at; those of a partition that is compared again count again.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why nothing can be said about a partition.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No generation is active, so there is nothing to compare.
    #[error("there is no projection yet; a balance service builds it when it runs")]
    NoGeneration,
    /// Queries were switched again and again.
    #[error("the queries were switched to another generation {SWITCHES_MAX} times while partition {} was compared", .0.get())]
    Switched(Partition),
    /// The index refused a repair.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Checks partitions of the active generation and yields their reports in the requested order. Dropping the stream ends
/// the check. Repeating it is harmless.
pub fn check<B: Backends>(
    backends: B,
    map: PartitionMap,
    check: Check,
    progress: Progress,
) -> impl Stream<Item = Result<PartitionReport, CheckError>> + Send {
    let Check { partitions, patience, repair } = check;
    stream::iter(partitions)
        .map(move |partition| {
            let one = One { backends: backends.clone(), map, partition, patience, repair, progress: progress.clone() };
            one.check()
        })
        .buffered(PARTITIONS_AT_ONCE)
}

/// One partition to check.
struct One<B> {
    backends: B,
    map: PartitionMap,
    partition: Partition,
    patience: Duration,
    repair: bool,
    progress: Progress,
}

impl<B: Backends> One<B> {
    /// Checks the partition in a generation that is active throughout the check: a generation that is no longer active
    /// may be discarded meanwhile, and then everything in it looks missing.
    async fn check(self) -> Result<PartitionReport, CheckError> {
        for _ in 0..SWITCHES_MAX {
            let generation = self.active().await?;
            let report = tokio::select! {
                biased;
                report = self.check_in(generation) => report,
                () = self.another_is_active(generation) => continue,
            };
            if self.active().await? == generation {
                return report;
            }
        }
        Err(CheckError::Switched(self.partition))
    }

    /// Waits until another generation is active. In a discarded one everything looks missing, which takes the whole
    /// patience to find out.
    async fn another_is_active(&self, generation: Generation) {
        loop {
            tokio::time::sleep(SWITCH_LOOK_EVERY).await;
            if self.active().await.is_ok_and(|active| active != generation) {
                return;
            }
        }
    }

    async fn active(&self) -> Result<Generation, CheckError> {
        self.backends.index().generations().await?.active.ok_or(CheckError::NoGeneration)
    }

    async fn check_in(&self, generation: Generation) -> Result<PartitionReport, CheckError> {
        // The client waits for this check, so it does not give way.
        let right_of_way = RightOfWay::default();
        let comparison = Comparison {
            backends: &self.backends,
            generation,
            slots: self.map.slots(self.partition),
            patience: self.patience,
            progress: &self.progress,
            right_of_way: &right_of_way,
        };
        if self.repair {
            forget(&self.backends, generation, self.partition).await?;
        }
        let mut walk = PartitionWalk::new(&comparison);
        while let Some(wrong) = walk.next_wrong().await? {
            if self.repair {
                repair(&self.backends, generation, self.partition, &to_repair(&wrong)).await?;
            }
        }
        let found = walk.into_verification();
        let left = if self.repair && !found.is_clean() { Some(comparison.run().await?) } else { None };
        let repaired = left.as_ref().map_or(0, |left| found.differences().saturating_sub(left.differences()));
        if repaired > 0 {
            warn!(partition = %self.partition, %generation, repaired, "documents repaired");
            counter!(DOCUMENTS_REPAIRED.name, "partition" => self.partition.to_string()).increment(repaired);
        }
        Ok(PartitionReport { partition: self.partition, generation, found, repaired, left })
    }
}

/// The accounts whose documents a repair writes anew. An orphan has no events, and a document that is ahead means that
/// the store was set back: an operator has to decide.
fn to_repair(wrong: &[Finding]) -> Vec<AccountId> {
    let can_be = |finding: &&Finding| match finding.fault {
        Fault::Missing | Fault::Behind | Fault::Diverged => true,
        Fault::Orphan | Fault::Ahead => false,
    };
    wrong.iter().filter(can_be).map(|finding| finding.account).collect()
}
