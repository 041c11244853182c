//! The note of the last verifications of the whole view: a register of the store.
//!
//! It has room for two generations: the one that answers queries, and the one that a rollback would switch to. A job
//! notes the verification of what it has built, since the next job takes its place in the register of jobs. It is noted
//! once: a job that the note has taken says nothing that the note lacks, even if a clock that was ahead has dated the
//! job's end behind that of later verifications.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::coordinate::Revision;
use shared::error::BackendError;
use shared::index::Generation;
use shared::store::{Registers, WriteError};

use super::report::{PartitionReport, Verification};
use crate::rebuild::{Job, JobId, JobState};

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
    /// The verification by a job that has built a generation and switched to it; `None` for any other job.
    pub(super) fn by_job(job: &Job) -> Option<Self> {
        if job.state != JobState::Done {
            return None;
        }
        Some(Self { generation: job.generation?, ended_at: job.finished_at?, found: job.verification.clone()? })
    }
}

/// The note as it is stored. An older release reads and writes the last verification alone.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    verified: Verified,
    #[serde(default)]
    other: Option<Verified>,
    #[serde(default)]
    job: Option<JobId>,
}

/// The note as it was read, and the right to write it if nobody else has written it since.
#[derive(Debug)]
pub(super) struct Note {
    revision: Revision,
    /// The last verification; `None` before the first.
    pub(super) verified: Option<Verified>,
    /// The last one of another generation.
    other: Option<Verified>,
    /// The last job whose verification was taken; `None` if the note does not tell.
    job: Option<JobId>,
}

impl Note {
    /// Reads the note. One of another release that this one cannot read says nothing, and is written over.
    pub(super) async fn load<R: Registers>(registers: &R) -> Result<Self, BackendError> {
        let register = registers.read_register(REGISTER).await?;
        let revision = register.as_ref().map_or(Revision::ABSENT, |register| register.revision);
        Ok(match register.and_then(|register| serde_json::from_slice(&register.value).ok()) {
            Some(Stored { verified, other, job }) => Self { revision, verified: Some(verified), other, job },
            None => Self { revision, verified: None, other: None, job: None },
        })
    }

    /// The verifications it holds, each of another generation.
    pub(super) fn each(&self) -> impl Iterator<Item = &Verified> {
        self.verified.iter().chain(&self.other)
    }

    /// Whether the verification by this job was noted, here or in a note before this one.
    pub(super) fn has_taken(&self, job: &Job) -> bool {
        self.job == Some(job.id)
    }

    /// Whether another verification has been noted since this was read.
    pub(super) async fn has_moved<R: Registers>(&self, registers: &R) -> Result<bool, BackendError> {
        Ok(Self::load(registers).await?.revision != self.revision)
    }

    /// Writes a verification over the last one of its generation, if nobody has noted another one meanwhile.
    pub(super) async fn write<R: Registers>(self, registers: &R, verified: &Verified) -> Result<(), BackendError> {
        let other = self.each().find(|noted| noted.generation != verified.generation).cloned();
        let stored = Stored { verified: verified.clone(), other, job: self.job };
        let value = serde_json::to_vec(&stored).map_err(|error| BackendError::broken("note a verification", error))?;
        match registers.write_register(REGISTER, self.revision, Bytes::from(value)).await {
            Ok(_) | Err(WriteError::Moved { .. }) => Ok(()),
            Err(WriteError::Backend(failure)) => Err(failure),
        }
    }

    /// Writes the verification by a job, unless it was taken, or one of its generation that is as new is noted. Of the
    /// others, only that of the generation which the job has replaced stays: queries are never switched to any older
    /// one.
    pub(super) async fn write_by_job<R: Registers>(self, registers: &R, job: &Job) -> Result<(), BackendError> {
        let news = Verified::by_job(job).filter(|by_job| !self.has_taken(job) && self.lacks(by_job));
        let Some(by_job) = news else { return Ok(()) };
        let replaced = self.each().find(|noted| Some(noted.generation) == job.previous).cloned();
        Self { verified: replaced, other: None, job: Some(job.id), ..self }.write(registers, &by_job).await
    }

    fn lacks(&self, by_job: &Verified) -> bool {
        let mut of_generation = self.each().filter(|noted| noted.generation == by_job.generation);
        of_generation.all(|noted| noted.ended_at < by_job.ended_at)
    }
}

/// Notes the verification by a job that is done, if it has made one.
pub(crate) async fn note_by_job<R: Registers>(registers: &R, job: &Job) -> Result<(), BackendError> {
    Note::load(registers).await?.write_by_job(registers, job).await
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
    use crate::rebuild::Purpose;
    use crate::testing::embedded;
    use shared::partition::{Partition, PartitionMap};
    use uuid::Uuid;

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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn verified(generation: u32, second: i64) -> Verified {
        let (generation, found) = (Generation(generation), Verification::default());
        Verified { generation, ended_at: at(second), found }
    }

    /// A job that has built and verified a generation in place of another one.
    fn built(generation: u32, previous: u32, second: i64) -> Job {
        let id = JobId(Uuid::from_u128(generation.into()));
        Job {
            generation: Some(Generation(generation)),
            verification: Some(Verification::default()),
            ..Job::new(id, Purpose::Rebuild, Some(Generation(previous)), Timestamp::EPOCH)
                .finished(JobState::Done, at(second))
        }
    }

    async fn noted<R: Registers>(registers: &R) -> Vec<Verified> {
        Note::load(registers).await.unwrap().each().cloned().collect()
    }

    #[tokio::test]
    async fn the_note_holds_the_generations_between_which_queries_can_be_switched() {
        let (backends, _folder) = embedded(PartitionMap::new(1).unwrap()).await;
        let store = &backends.store;
        note_by_job(store, &built(1, 0, 1)).await.unwrap();
        note_by_job(store, &built(2, 1, 2)).await.unwrap();
        assert_eq!(noted(store).await, [verified(2, 2), verified(1, 1)]);
        Note::load(store).await.unwrap().write(store, &verified(1, 3)).await.unwrap();
        assert_eq!(noted(store).await, [verified(1, 3), verified(2, 2)]);
        Note::load(store).await.unwrap().write(store, &verified(2, 4)).await.unwrap();
        // Queries were switched back to the first one before.
        note_by_job(store, &built(3, 1, 5)).await.unwrap();
        assert_eq!(noted(store).await, [verified(3, 5), verified(1, 3)]);
    }

    #[tokio::test]
    async fn a_job_without_a_verification_that_is_news_leaves_the_note_as_it_is() {
        let (backends, _folder) = embedded(PartitionMap::new(1).unwrap()).await;
        let store = &backends.store;
        for generation in [2, 1] {
            Note::load(store).await.unwrap().write(store, &verified(generation, 7)).await.unwrap();
        }
        let note = Note::load(store).await.unwrap();
        let rollback = Job { verification: None, ..built(2, 1, 9) };
        let failed = Job { state: JobState::Failed, ..built(3, 1, 9) };
        for job in [built(2, 1, 7), built(1, 0, 6), rollback, failed] {
            note_by_job(store, &job).await.unwrap();
            assert!(!note.has_moved(store).await.unwrap(), "{job:?}");
        }
    }

    #[tokio::test]
    async fn a_job_is_noted_once_whatever_its_clock_said() {
        let (backends, _folder) = embedded(PartitionMap::new(1).unwrap()).await;
        let store = &backends.store;
        let ahead = built(2, 1, 900);
        note_by_job(store, &ahead).await.unwrap();
        Note::load(store).await.unwrap().write(store, &verified(2, 7)).await.unwrap();
        note_by_job(store, &ahead).await.unwrap();
        assert_eq!(noted(store).await, [verified(2, 7)]);
    }

    #[tokio::test]
    async fn what_an_older_release_has_noted_is_read() {
        let (backends, _folder) = embedded(PartitionMap::new(1).unwrap()).await;
        let older = serde_json::to_vec(&verified(1, 7)).unwrap();
        backends.store.write_register(REGISTER, Revision::ABSENT, Bytes::from(older)).await.unwrap();
        assert_eq!(noted(&backends.store).await, [verified(1, 7)]);
    }
}
