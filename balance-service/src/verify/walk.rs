//! The order of a comparison: scan, then orphans, with stops to judge the suspects found so far.

use std::time::Duration;

use shared::backends::Backends;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Generation, Loaded};
use shared::partition::SlotRange;
use shared::retry::Backoff;

use super::check::Progress;
use super::orphans::Orphans;
use super::report::{Finding, Verification};
use super::scan::Scan;
use super::suspects::DocumentSuspects;
use crate::right_of_way::RightOfWay;

/// What is compared, and how patiently.
pub(super) struct Comparison<'a, B> {
    pub(super) backends: &'a B,
    pub(super) generation: Generation,
    pub(super) slots: SlotRange,
    pub(super) patience: Duration,
    pub(super) progress: &'a Progress,
    pub(super) right_of_way: &'a RightOfWay,
}

impl<B: Backends> Comparison<'_, B> {
    /// Compares every document.
    pub(super) async fn run(&self) -> Result<Verification, BackendError> {
        let mut walk = PartitionWalk::new(self);
        while walk.next_wrong().await?.is_some() {}
        Ok(walk.into_verification())
    }

    /// What the index knows of these accounts, even if it is unavailable for some seconds: to compare everything again
    /// would take far longer.
    pub(super) async fn load_patiently(&self, accounts: &[AccountId]) -> Result<Vec<Loaded>, BackendError> {
        let mut backoff = Backoff::default();
        loop {
            match self.backends.index().load(self.generation, accounts).await {
                Ok(loaded) => return Ok(loaded),
                Err(failure) => backoff.wait(failure).await?,
            }
        }
    }
}

/// A comparison in progress, which stops whenever so many suspects wait that they have to be judged first.
pub(super) struct PartitionWalk<'a, B: Backends> {
    comparison: &'a Comparison<'a, B>,
    scan: Scan<'a, B>,
    orphans: Orphans<'a, B>,
    verification: Verification,
}

impl<'a, B: Backends> PartitionWalk<'a, B> {
    pub(super) fn new(comparison: &'a Comparison<'a, B>) -> Self {
        let (scan, orphans) = (Scan::new(comparison), Orphans::new(comparison));
        Self { comparison, scan, orphans, verification: Verification::default() }
    }

    /// What is wrong in the next stretch of the partition; `None` when all of it has been compared.
    pub(super) async fn next_wrong(&mut self) -> Result<Option<Vec<Finding>>, BackendError> {
        if self.orphans.is_done() {
            return Ok(None);
        }
        let mut suspects = DocumentSuspects::new();
        self.scan.collect(&mut suspects, &mut self.verification).await?;
        self.orphans.collect(&mut suspects).await?;
        let wrong = self.comparison.judge(suspects, &mut self.verification).await?;
        for finding in &wrong {
            self.verification.add(finding.clone());
        }
        Ok(Some(wrong))
    }

    /// What was found so far.
    pub(super) fn into_verification(self) -> Verification {
        self.verification
    }
}
