//! Rebuilding the projection while the bank is running, verifying the result, and rolling it back.
//!
//! A rebuild is a second projection with its own checkpoints. While a job runs, the owner of each partition works on
//! two generations: the active one as usual, and the new one, which it fills from the store and then feeds from the
//! log. The [`conductor`] takes the job through its states; every step is noted in the store before the next one begins
//! and can be repeated, so any process may die at any step and another one continues.
//!
//! B1  Nothing is lost. The worker of the new generation notes the end of its partition *before* it scans the store. A
//!     commit that the scan does not see was made after the scan passed its stream, so it is published after the noted
//!     end, where the worker continues to read.
//! B2  Nothing is counted twice. What both the scan and the log deliver is skipped by version.
//! B3  Readers never see a missing or partial view. They read the active generation, which is fed until the switch.
//! B4  Readers never see an older view. Before the switch the active generation is sealed, and every document of the
//!     new one is brought to at least the version of the sealed one. The view stands still meanwhile, but never goes
//!     back. An index of several nodes is one index only to readers that ask the same node: another one may learn of
//!     the switch a moment later.
//! B5  Queries never switch to an unverified generation: every document was compared with the fold of its stream.
//! B6  There is one job at a time, decided by compare-and-set on one register.
//! B7  No generation is discarded that a running job names or may yet name, whoever was frozen meanwhile. Whoever
//!     discards reads the job, lists the generations, writes the job at the revision it has read, and then discards
//!     what it has listed and the written job does not need. A job comes to name a generation by a write too: a
//!     conductor writes at the revision that it had before it made the generation, a rollback at that of the job that
//!     kept it. If that revision is the one the discarding conductor has read, or an earlier one, of both writes the
//!     second is refused; if it is a later one, the discarding conductor's own write is. What a cancelled job names is
//!     discarded after it was written as cancelled, and is never named again.
//!
//! After the switch the previous generation is still fed for as long as it is kept, so a rollback is just another
//! switch, and the same argument holds.

mod conductor;
mod job;
mod status;
mod switch;
#[cfg(test)]
mod two_at_once;

use metrics::counter;
use shared::backends::Backends;
use shared::clock::Clock;
use shared::error::{BackendError, Effect};
use shared::event::StreamAfter;
use shared::id::Ids;
use shared::index::{BalanceIndex, Checkpoint, Generation, Generations, Phase};
use shared::partition::{Partition, PartitionMap, Slot, SlotRange};
use shared::store::WriteError;
use shared::telemetry::metric::REBUILDS;
use tracing::info;

pub(crate) use conductor::{Conductor, conduct};
pub use job::{Job, JobFile, JobId, JobState, Purpose, Target};
pub use status::{PartitionProgress, RebuildRefusal, RebuildStatus};

use crate::nudge::Nudge;

/// How often a request is decided again when another process wrote the job at the same time.
const RACES_MAX: usize = 8;

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
            let cancelled = conductor::given_up(job, JobState::Cancelled, None, self.clock.now());
            match file.save(self.backends.store(), cancelled.clone()).await {
                Ok(_) => {
                    info!(job = %cancelled.id, "rebuild cancelled");
                    counter!(REBUILDS.name, "result" => "cancelled").increment(1);
                    conductor::discard_leftovers(&self.backends, &cancelled).await.map_err(once_written)?;
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
        let mut partitions = Vec::new();
        if let Some(generation) = job.generation.filter(|_| job.state != JobState::Cancelled) {
            for partition in self.partitions.all() {
                let checkpoint = self.backends.index().checkpoint(generation, partition).await?;
                partitions.push(progress(partition, self.partitions.slots(partition), checkpoint));
            }
        }
        let until = job.finished_at.unwrap_or_else(|| self.clock.now());
        let micros = job.started_at.until(until).as_micros().max(1);
        let done: u64 = partitions.iter().map(|partition| partition.done).sum();
        let rate = u64::try_from(u128::from(done) * 1_000_000 / micros).ok().filter(|rate| *rate > 0);
        let left: u64 = partitions.iter().map(|p| p.total.unwrap_or(0).saturating_sub(p.done)).sum();
        let estimated = partitions.iter().all(|partition| partition.total.is_some());
        let eta = rate.filter(|_| estimated && job.state == JobState::Replaying).map(|rate| left.div_ceil(rate));
        Ok(RebuildStatus { job, partitions, events_per_second: rate, eta_seconds: eta })
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

fn progress(partition: Partition, slots: SlotRange, checkpoint: Option<Checkpoint>) -> PartitionProgress {
    let (state, done, total) = match checkpoint.map(|checkpoint| checkpoint.phase) {
        None => ("waiting", 0, None),
        Some(Phase::Replaying { after, done }) => ("replaying", done, after.map(|after| whole(slots, after, done))),
        Some(Phase::Live { replayed }) => ("live", replayed, Some(replayed)),
    };
    PartitionProgress { partition, state, done, total }
}

/// Estimates how many events a partition holds, given that `done` of them lie before a place: accounts are spread
/// evenly over slots, and a replay passes them in order. Counting them would take as long as the replay.
fn whole(slots: SlotRange, place: StreamAfter, done: u64) -> u64 {
    let width = u64::from(slots.end - slots.start);
    let passed = u64::from(Slot::of(&place.stream).get().saturating_sub(slots.start)) + 1;
    (done.saturating_mul(width) / passed).max(done)
}

/// The generations that workers feed: the active one, the one a running job fills, and the one kept for a rollback.
pub(crate) fn fed(active: Option<Generation>, job: Option<&Job>, now: shared::clock::Timestamp) -> Vec<Generation> {
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

#[cfg(test)]
mod tests {
    use shared::coordinate::Version;
    use shared::id::AccountId;

    use super::*;

    #[test]
    fn a_failure_after_the_job_was_written_does_not_count_as_without_effect() {
        let refusal = once_written(BackendError::not_done("discard", "away"));
        let RebuildRefusal::Backend(failure) = refusal else { panic!("another refusal") };
        assert_eq!(failure.effect, Effect::Unknown);
    }

    #[test]
    fn a_replay_that_has_come_halfway_has_as_much_to_do_again() {
        let stream = AccountId::from_bytes([7; 16]);
        let slot = Slot::of(&stream).get();
        let place = StreamAfter { stream, after: Version::new(1) };
        let half = SlotRange { start: slot - 99, end: slot + 101 };
        assert_eq!(whole(half, place, 500), 1_000);
        let last = SlotRange { start: slot - 99, end: slot + 1 };
        assert_eq!(whole(last, place, 500), 500, "the last slot is the end");
        assert_eq!(whole(SlotRange { start: slot, end: slot + 1 }, place, u64::MAX), u64::MAX);
    }
}
