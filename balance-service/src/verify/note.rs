//! The note of the last verification of the whole view: a register of the store.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::coordinate::Revision;
use shared::error::BackendError;
use shared::index::Generation;
use shared::store::{Registers, WriteError};

use super::report::{PartitionReport, Verification};
use crate::rebuild::Job;

/// The register that holds the note.
const REGISTER: &str = "verify/balance";

/// A comparison of every document of a generation that answered the queries meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verified {
    pub(super) generation: Generation,
    pub(super) ended_at: Timestamp,
    /// What was wrong when it ended.
    pub(super) found: Verification,
}

impl Verified {
    /// The verification by a job that has built a generation and has ended; `None` for any other job.
    pub(super) fn by_job(job: &Job) -> Option<Self> {
        Some(Self { generation: job.generation?, ended_at: job.finished_at?, found: job.verification.clone()? })
    }
}

/// The note as it was read, and the right to write it if nobody else has written it since.
#[derive(Debug)]
pub(super) struct Note {
    revision: Revision,
    /// What it says; `None` before the first.
    pub(super) verified: Option<Verified>,
}

impl Note {
    /// Reads the note. One of another release that this one cannot read says nothing, and is written over.
    pub(super) async fn load<R: Registers>(registers: &R) -> Result<Self, BackendError> {
        let Some(stored) = registers.read_register(REGISTER).await? else {
            return Ok(Self { revision: Revision::ABSENT, verified: None });
        };
        Ok(Self { revision: stored.revision, verified: serde_json::from_slice(&stored.value).ok() })
    }

    /// Whether another verification has been noted since this was read.
    pub(super) async fn has_moved<R: Registers>(&self, registers: &R) -> Result<bool, BackendError> {
        Ok(Self::load(registers).await?.revision != self.revision)
    }

    /// Writes the note over the one that was read. If another verification was noted meanwhile, that one stays.
    pub(super) async fn write<R: Registers>(self, registers: &R, verified: &Verified) -> Result<(), BackendError> {
        let value = serde_json::to_vec(verified).map_err(|error| BackendError::broken("note a verification", error))?;
        match registers.write_register(REGISTER, self.revision, Bytes::from(value)).await {
            Ok(_) | Err(WriteError::Moved { .. }) => Ok(()),
            Err(WriteError::Backend(failure)) => Err(failure),
        }
    }
}

/// The reports of a check, added up.
#[derive(Debug, Default)]
pub(super) struct Sum {
    /// The generation of each report.
    generations: Vec<Generation>,
    found: Verification,
}

impl Sum {
    pub(super) fn add(&mut self, report: &PartitionReport) {
        self.generations.push(report.generation);
        self.found.merge(report.left.as_ref().unwrap_or(&report.found).clone());
    }

    /// The verification that the reports amount to, if they are about one generation and this many partitions.
    pub(super) fn verified(self, partitions: u16, ended_at: Timestamp) -> Option<Verified> {
        let generation = *self.generations.first()?;
        let is_whole = self.generations.len() == usize::from(partitions)
            && self.generations.iter().all(|other| *other == generation);
        is_whole.then_some(Verified { generation, ended_at, found: self.found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::partition::Partition;

    fn report(generation: u32, orphans: u64, left: Option<u64>) -> PartitionReport {
        let found = |orphans| Verification { orphans, ..Verification::default() };
        let (partition, generation) = (Partition::new(1), Generation(generation));
        PartitionReport { partition, generation, found: found(orphans), repaired: 0, left: left.map(found) }
    }

    #[test]
    fn reports_of_all_partitions_of_one_generation_amount_to_a_verification_of_what_is_wrong_now() {
        let sum_of = |reports: &[PartitionReport]| {
            let mut sum = Sum::default();
            for report in reports {
                sum.add(report);
            }
            sum.verified(2, Timestamp::EPOCH)
        };
        let found = Verification { orphans: 6, ..Verification::default() };
        let whole = Verified { generation: Generation(3), ended_at: Timestamp::EPOCH, found };
        assert_eq!(sum_of(&[report(3, 5, None), report(3, 7, Some(1))]), Some(whole));
        assert_eq!(sum_of(&[report(3, 5, None), report(4, 0, None)]), None, "two generations");
        assert_eq!(sum_of(&[report(3, 5, None)]), None, "one partition of two");
        assert_eq!(sum_of(&[]), None);
    }
}
