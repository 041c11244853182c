//! What clients ask of rebuilds: to begin, cancel or roll back, each decided by one write of the job.

use metrics::counter;
use shared::backends::Backends;
use shared::clock::Clock;
use shared::error::{BackendError, Effect};
use shared::id::Ids;
use shared::index::{BalanceIndex, Generations};
use shared::partition::PartitionMap;
use shared::store::WriteError;
use shared::telemetry::metric::REBUILDS;
use tracing::info;

use super::discard::discard_leftovers;
use super::job::{Job, JobFile, JobId, JobState, Purpose};
use super::status::{RebuildStatus, describe};
use crate::nudge::Nudge;

/// How often a request is decided again when another process wrote the job at the same time.
const RACES_MAX: usize = 8;

/// Why a request about rebuilds was refused.
#[derive(Debug, thiserror::Error)]
pub enum RebuildRefusal {
    /// A job is running; there is one at a time.
    #[error("a rebuild is running")]
    Running(Box<RebuildStatus>),
    /// No job is running.
    #[error("no rebuild is running")]
    NothingToCancel,
    /// The queries are being switched.
    #[error("it is too late to cancel: the queries are being switched; roll back when that is done")]
    TooLate,
    /// There is no previous generation, or it is no longer kept.
    #[error("no previous generation is kept")]
    NoPrevious,
    /// A backend failed; ask for the status.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Handles requests for rebuilds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rebuilds<B> {
    backends: B,
    partitions: PartitionMap,
    clock: Clock,
    ids: Ids,
    nudge: Nudge,
}

impl<B: Backends> Rebuilds<B> {
    /// Handles the requests of one process; `nudge` wakes its workers at once, others notice by themselves.
    #[must_use]
    pub const fn new(backends: B, partitions: PartitionMap, clock: Clock, ids: Ids, nudge: Nudge) -> Self {
        Self { backends, partitions, clock, ids, nudge }
    }

    /// Starts a rebuild.
    ///
    /// # Errors
    /// [`RebuildRefusal::Running`] with the running job, if there is one.
    pub async fn start(&self) -> Result<RebuildStatus, RebuildRefusal> {
        self.begin(|_, generations| Ok(Job::new(self.new_id(), Purpose::Rebuild, generations.active, self.clock.now())))
            .await
    }

    /// Switches queries back to the previous generation, while it is kept.
    ///
    /// # Errors
    /// [`RebuildRefusal::NoPrevious`] if there is none, [`RebuildRefusal::Running`] while a job runs.
    pub async fn rollback(&self) -> Result<RebuildStatus, RebuildRefusal> {
        self.begin(|last, generations| {
            let kept = last.and_then(|job| job.kept(self.clock.now()));
            let kept = kept.filter(|kept| generations.all.contains(kept) && generations.active != Some(*kept));
            Ok(Job {
                generation: Some(kept.ok_or(RebuildRefusal::NoPrevious)?),
                keep_previous_until: last.and_then(|job| job.keep_previous_until),
                ..Job::new(self.new_id(), Purpose::Rollback, generations.active, self.clock.now())
            })
        })
        .await
    }

    /// Cancels the running job, unless it is already switching. Its generation is discarded; a rollback's is kept.
    ///
    /// # Errors
    /// [`RebuildRefusal::NothingToCancel`], or [`RebuildRefusal::TooLate`].
    pub async fn cancel(&self) -> Result<RebuildStatus, RebuildRefusal> {
        for _ in 0..RACES_MAX {
            let file = JobFile::load(self.backends.store()).await?;
            let Some(job) = file.job.clone().filter(|job| job.state.is_running()) else {
                return Err(RebuildRefusal::NothingToCancel);
            };
            if job.state == JobState::Switching {
                return Err(RebuildRefusal::TooLate);
            }
            let cancelled = job.given_up(JobState::Cancelled, None, self.clock.now());
            match file.save(self.backends.store(), cancelled.clone()).await {
                Ok(_) => {
                    info!(job = %cancelled.id, "rebuild cancelled");
                    counter!(REBUILDS.name, "result" => "cancelled").increment(1);
                    discard_leftovers(&self.backends, &cancelled).await.map_err(once_written)?;
                    self.nudge.all();
                    return self.describe(cancelled).await.map_err(once_written);
                }
                Err(WriteError::Moved { .. }) => {}
                Err(WriteError::Backend(failure)) => return Err(failure.into()),
            }
        }
        Err(raced("cancel").into())
    }

    /// The running or last job and its progress; `None` before the first.
    ///
    /// # Errors
    /// A backend failed.
    pub async fn status(&self) -> Result<Option<RebuildStatus>, BackendError> {
        match JobFile::load(self.backends.store()).await?.job {
            Some(job) => self.describe(job).await.map(Some),
            None => Ok(None),
        }
    }

    async fn begin(
        &self,
        new_job: impl Fn(Option<&Job>, &Generations) -> Result<Job, RebuildRefusal>,
    ) -> Result<RebuildStatus, RebuildRefusal> {
        for _ in 0..RACES_MAX {
            let file = JobFile::load(self.backends.store()).await?;
            if let Some(running) = file.job.clone().filter(|job| job.state.is_running()) {
                return Err(RebuildRefusal::Running(Box::new(self.describe(running).await?)));
            }
            // Read after the job: only a running job switches queries, so until this one is written the generation
            // active now keeps answering them.
            let generations = self.backends.index().generations().await?;
            let job = new_job(file.job.as_ref(), &generations)?;
            match file.save(self.backends.store(), job.clone()).await {
                Ok(_) => {
                    info!(job = %job.id, purpose = ?job.purpose, "rebuild requested");
                    self.nudge.all();
                    return self.describe(job).await.map_err(once_written);
                }
                Err(WriteError::Moved { .. }) => {}
                Err(WriteError::Backend(failure)) => return Err(failure.into()),
            }
        }
        Err(raced("begin").into())
    }

    async fn describe(&self, job: Job) -> Result<RebuildStatus, BackendError> {
        describe(&self.backends, self.partitions, &self.clock, job).await
    }

    fn new_id(&self) -> JobId {
        JobId(self.ids.commit().uuid())
    }
}

/// A failure after the job was written does not undo the request.
fn once_written(failure: BackendError) -> RebuildRefusal {
    RebuildRefusal::Backend(BackendError { effect: Effect::Unknown, ..failure })
}

fn raced(operation: &'static str) -> BackendError {
    BackendError::not_done(operation, "other processes keep changing the job")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_after_the_job_was_written_does_not_count_as_without_effect() {
        let refusal = once_written(BackendError::not_done("discard", "away"));
        let RebuildRefusal::Backend(failure) = refusal else { panic!("another refusal") };
        assert_eq!(failure.effect, Effect::Unknown);
    }
}
