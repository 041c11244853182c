//! Checking the active generation, partition by partition or single accounts of it, and repairing it on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream;
use futures::{Stream, StreamExt, TryStreamExt};
use metrics::counter;
use shared::backends::Backends;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{ApplyError, BalanceIndex, Generation};
use shared::partition::{Partition, PartitionMap};
use shared::telemetry::metric::DOCUMENTS_REPAIRED;
use tracing::warn;

use super::PARTITIONS_AT_ONCE;
use super::accounts::{Accounts, by_partition};
use super::report::{Fault, Finding, PartitionReport, Verification};
use super::suspects::DocumentSuspects;
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
    /// Which documents.
    pub scope: Scope,
    /// How long a difference may be due to events in flight (law P2); zero if none can be.
    pub patience: Duration,
    /// Whether to repair what is wrong (law P4).
    pub repair: bool,
}

/// Which documents a check compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of these partitions.
    Partitions(Vec<Partition>),
    /// Those of these accounts.
    Accounts(Accounts),
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
    /// Some of the named accounts have neither an event nor a document. Nothing was compared.
    #[error("no such account: {}", listed(.0))]
    NoAccounts(Vec<AccountId>),
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

fn listed(accounts: &[AccountId]) -> String {
    accounts.iter().map(AccountId::to_string).collect::<Vec<_>>().join(", ")
}

/// Checks documents of the active generation and yields a report of each partition that has some of them: in the
/// requested order, or in that of the partitions if accounts are requested. Dropping the stream ends the check.
/// Repeating it is harmless.
pub fn check<B: Backends>(
    backends: B,
    map: PartitionMap,
    check: Check,
    progress: Progress,
) -> impl Stream<Item = Result<PartitionReport, CheckError>> + Send {
    let Check { scope, patience, repair } = check;
    let planned = {
        let (backends, progress) = (backends.clone(), progress.clone());
        async move { planned(&backends, map, scope, &progress).await }
    };
    stream::once(planned)
        .map_ok(move |planned| {
            let (backends, progress) = (backends.clone(), progress.clone());
            let check = move |(partition, accounts)| {
                let (backends, progress) = (backends.clone(), progress.clone());
                One { backends, map, partition, accounts, patience, repair, progress }.check()
            };
            stream::iter(planned).map(check).buffered(PARTITIONS_AT_ONCE)
        })
        .try_flatten()
}

/// What to compare in each partition: the documents of these accounts, or all of them.
type Planned = Vec<(Partition, Option<DocumentSuspects>)>;

async fn planned<B: Backends>(
    backends: &B,
    map: PartitionMap,
    scope: Scope,
    progress: &Progress,
) -> Result<Planned, CheckError> {
    match scope {
        Scope::Partitions(partitions) => Ok(partitions.into_iter().map(|partition| (partition, None)).collect()),
        Scope::Accounts(accounts) => {
            let partitions = by_partition(backends, map, &accounts, progress).await?;
            Ok(partitions.into_iter().map(|(partition, accounts)| (partition, Some(accounts))).collect())
        }
    }
}

/// One partition to check.
struct One<B> {
    backends: B,
    map: PartitionMap,
    partition: Partition,
    /// The only accounts to check, with the heads of their streams; `None` for the whole partition.
    accounts: Option<DocumentSuspects>,
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
        let found = self.compare(&comparison, self.repair).await?;
        let left = if self.repair && !found.is_clean() { Some(self.compare(&comparison, false).await?) } else { None };
        let repaired = left.as_ref().map_or(0, |left| found.differences().saturating_sub(left.differences()));
        if repaired > 0 {
            warn!(partition = %self.partition, %generation, repaired, "documents repaired");
            counter!(DOCUMENTS_REPAIRED.name, "partition" => self.partition.to_string()).increment(repaired);
        }
        Ok(PartitionReport { partition: self.partition, generation, found, repaired, left })
    }

    /// Compares the accounts or the whole partition, and has what is wrong rewritten if that `mends`.
    async fn compare(&self, comparison: &Comparison<'_, B>, mends: bool) -> Result<Verification, CheckError> {
        let Some(accounts) = &self.accounts else { return self.compare_all(comparison, mends).await };
        let mut verification = Verification::default();
        let wrong = comparison.judge(accounts.clone(), &mut verification).await?;
        for finding in &wrong {
            verification.add(finding.clone());
        }
        if mends {
            repair(&self.backends, comparison.generation, self.partition, &to_repair(&wrong)).await?;
        }
        Ok(verification)
    }

    async fn compare_all(&self, comparison: &Comparison<'_, B>, mends: bool) -> Result<Verification, CheckError> {
        let mut walk = PartitionWalk::new(comparison);
        while let Some(wrong) = walk.next_wrong().await? {
            if mends {
                repair(&self.backends, comparison.generation, self.partition, &to_repair(&wrong)).await?;
            }
        }
        Ok(walk.into_verification())
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
