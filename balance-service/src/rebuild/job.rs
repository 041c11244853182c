//! The job in its register: what it is for, how far it has come, and which generations it concerns.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::coordinate::{Offset, Revision};
use shared::error::BackendError;
use shared::index::{Generation, Generations, Seal};
use shared::log::Incarnation;
use shared::partition::Partition;
use shared::store::{Registers, WriteError};
use uuid::Uuid;

use crate::verify::Verification;

/// The register that holds the running or last job.
const REGISTER: &str = "rebuild/balance";

/// The name of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A rebuild was requested.
    Rebuild,
    /// There was no active generation: a first start, or an index that vanished.
    Restore,
    /// A return to the previous generation was requested.
    Rollback,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The new generation is being filled from the store.
    Replaying,
    /// The new generation follows the log up to the ends noted when the replay was done.
    CatchingUp,
    /// The new generation is being compared with the store.
    Verifying,
    /// Queries are being switched; it is too late to cancel.
    Switching,
    /// The new generation answers queries.
    Done,
    /// Nothing has changed for the queries, or an index that lost the switch has changed them back.
    Failed,
    /// Nothing has changed for the queries.
    Cancelled,
}

impl JobState {
    /// Whether the job still has something to do.
    #[must_use]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Replaying | Self::CatchingUp | Self::Verifying | Self::Switching)
    }
}

/// Where a partition ended when the replay was done: the new generation has caught up when it has reached that end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The partition.
    pub partition: Partition,
    /// The incarnation the offset belongs to.
    pub incarnation: Incarnation,
    /// The end.
    pub offset: Offset,
}

/// The running or last job, as all balance services see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    #[serde(rename = "job")]
    pub id: JobId,
    /// What it is for.
    pub purpose: Purpose,
    /// Its state.
    pub state: JobState,
    /// The generation to switch to; `None` until it is created.
    pub generation: Option<Generation>,
    /// The generation that was active when the job began.
    pub previous: Option<Generation>,
    /// When it was requested.
    pub started_at: Timestamp,
    /// When it was done, failed or cancelled.
    pub finished_at: Option<Timestamp>,
    /// Until when the previous generation is kept and fed, so that a rollback is one switch; `None` from the moment it
    /// may be discarded.
    pub keep_previous_until: Option<Timestamp>,
    /// The ends to catch up with.
    pub targets: Vec<Target>,
    /// The result of comparing the new generation with the store.
    pub verification: Option<Verification>,
    /// Why it failed.
    pub failure: Option<String>,
}

impl Job {
    /// A job that has not done anything yet.
    #[must_use]
    pub const fn new(id: JobId, purpose: Purpose, previous: Option<Generation>, started_at: Timestamp) -> Self {
        Self {
            id,
            purpose,
            state: JobState::Replaying,
            generation: None,
            previous,
            started_at,
            finished_at: None,
            keep_previous_until: None,
            targets: Vec::new(),
            verification: None,
            failure: None,
        }
    }

    /// The seal under which this job switches.
    #[must_use]
    pub const fn seal(&self) -> Seal {
        Seal(self.id.0)
    }

    /// The generation that a rollback would switch to, while it is kept: the previous one, or the target of a rollback
    /// that failed or was cancelled.
    #[must_use]
    pub fn kept(&self, now: Timestamp) -> Option<Generation> {
        let kept = match (self.state, self.purpose) {
            (JobState::Done, _) => self.previous,
            (JobState::Failed | JobState::Cancelled, Purpose::Rollback) => self.generation,
            (JobState::Failed | JobState::Cancelled, Purpose::Rebuild | Purpose::Restore)
            | (JobState::Replaying | JobState::CatchingUp | JobState::Verifying | JobState::Switching, _) => None,
        };
        kept.filter(|_| self.keep_previous_until.is_some_and(|until| now < until))
    }

    /// Whether the queries are answered as before this job, which had switched them: a loss of power or somebody's hand
    /// has undone that. A server of the index that has not learned of the switch yet still lists the job's generation,
    /// which cannot be discarded while it is active; what is listed no more is lost.
    pub(super) fn has_lost_switch(&self, generations: &Generations) -> bool {
        self.state == JobState::Done
            && self.previous.is_some()
            && self.previous == generations.active
            && self.generation.is_some_and(|own| !generations.all.contains(&own))
    }

    /// The job in a final state.
    #[must_use]
    pub fn finished(mut self, state: JobState, at: Timestamp) -> Self {
        self.state = state;
        self.finished_at = Some(at);
        self.targets.clear();
        self
    }

    /// The job as it ends without a switch. A rollback's generation is not the job's own and stays kept.
    pub(super) fn given_up(self, state: JobState, failure: Option<String>, at: Timestamp) -> Self {
        Self { failure, ..self.finished(state, at) }
    }
}

/// The generations that workers feed: the active one, the one a running job fills, and the one kept for a rollback.
pub(crate) fn fed(active: Option<Generation>, job: Option<&Job>, now: Timestamp) -> Vec<Generation> {
    let mut fed: Vec<Generation> = active.into_iter().collect();
    if let Some(job) = job {
        let running = job.state.is_running();
        fed.extend(job.generation.filter(|_| running));
        fed.extend(job.previous.filter(|_| running));
        fed.extend(job.kept(now));
    }
    fed.sort_unstable();
    fed.dedup();
    fed
}

/// The job as it was read, and the right to write it if nobody else has written it since.
#[derive(Clone, Debug)]
pub struct JobFile {
    revision: Revision,
    /// The running or last job; `None` before the first.
    pub job: Option<Job>,
}

impl JobFile {
    /// Reads the job.
    ///
    /// # Errors
    /// The store failed.
    pub async fn load<R: Registers>(registers: &R) -> Result<Self, BackendError> {
        let Some(stored) = registers.read_register(REGISTER).await? else {
            return Ok(Self { revision: Revision::ABSENT, job: None });
        };
        let job = serde_json::from_slice(&stored.value).map_err(|error| BackendError::broken("read the job", error))?;
        Ok(Self { revision: stored.revision, job: Some(job) })
    }

    /// Writes the job over the one that was read.
    ///
    /// # Errors
    /// The job was written by someone else meanwhile, or the store failed.
    pub async fn save<R: Registers>(self, registers: &R, job: Job) -> Result<Self, WriteError> {
        let value = serde_json::to_vec(&job).map_err(|error| BackendError::broken("write the job", error))?;
        let revision = registers.write_register(REGISTER, self.revision, Bytes::from(value)).await?;
        Ok(Self { revision, job: Some(job) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_stored_with_its_id_where_every_release_looks_for_it() {
        let job = Job::new(JobId(Uuid::nil()), Purpose::Rebuild, None, Timestamp::EPOCH);
        let stored = serde_json::to_value(&job).unwrap();
        assert_eq!(stored["job"], serde_json::json!(Uuid::nil()));
        assert_eq!(serde_json::from_value::<Job>(stored).unwrap(), job);
    }
}
