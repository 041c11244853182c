//! Takes the job through its states. One conductor works at a time, by lease; every step is decided by compare-and-set
//! on the job, so two at once only make each other's steps fail.
//!
//! | state | what the conductor does | and then |
//! |---|---|---|
//! | `replaying` | makes the generation, waits until every partition of it is live | notes the log's ends |
//! | `catching_up` | waits until every partition of it has reached its noted end | |
//! | `verifying` | compares it with the store | stops the job if anything differs |
//! | `switching` | seals the old one, brings the new one forward, promotes it, lifts the seal | |
//! | over | discards what no job needs any more, lifts forgotten seals | restores a missing view |

use std::convert::Infallible;
use std::time::Duration;

use metrics::counter;
use shared::backends::Backends;
use shared::clock::Clock;
use shared::error::BackendError;
use shared::id::Ids;
use shared::index::{ApplyError, BalanceIndex, Generation, Generations, Phase};
use shared::lease::{Candidate, LeaseName};
use shared::log::PartitionLog;
use shared::log::floor::sweep_floors;
use shared::store::WriteError;
use shared::telemetry::metric::REBUILDS;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::discard::discard;
use super::job::{Job, JobFile, JobId, JobState, Purpose, Target};
use super::switch::{SwitchError, switch};
use crate::BalanceConfig;
use crate::nudge::{LOOK_EVERY, Nudge};
use crate::right_of_way::RightOfWay;
use crate::verify::{note_by_job, verification_patience, verify};

/// The name of the lease that the conductor holds.
pub(crate) const CONDUCTOR_LEASE: &str = "balance/conductor";

/// How often the progress of the workers is checked.
const PROGRESS_EVERY: Duration = Duration::from_millis(25);

/// How often the floors of generations that are gone are removed (law M2 of [`shared::log::floor`]).
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Why a step was not taken. The job is read again and the step decided again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The job was written meanwhile, by a request or another conductor.
    #[error(transparent)]
    Moved(#[from] WriteError),
    /// A backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The index refused a write.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Everything a conductor needs.
#[derive(Clone)]
pub(crate) struct Conductor<B> {
    pub(crate) backends: B,
    pub(crate) config: BalanceConfig,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) nudge: Nudge,
    pub(crate) right_of_way: RightOfWay,
}

/// Conducts while this process holds the lease, and waits to take over while another one does.
pub(crate) async fn conduct<B: Backends>(
    conductor: Conductor<B>,
    shutdown: CancellationToken,
) -> Result<(), StepError> {
    let candidate = Candidate {
        leases: conductor.backends.leases(),
        name: LeaseName(CONDUCTOR_LEASE.into()),
        holder: &conductor.config.holder,
        ttl: conductor.config.lease_ttl,
        ask_every: LOOK_EVERY,
    };
    candidate
        .act(&shutdown, |_| async {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(()),
                stopped = conductor.work() => stopped.map(|never| match never {}),
            }
        })
        .await
}

impl<B: Backends> Conductor<B> {
    async fn work(&self) -> Result<Infallible, StepError> {
        for result in ["done", "failed", "cancelled"] {
            counter!(REBUILDS.name, "result" => result).increment(0);
        }
        let mut sweep_at = Instant::now();
        loop {
            let file = JobFile::load(self.backends.store()).await?;
            let generations = self.backends.index().generations().await?;
            self.lift_seals(&generations).await?;
            if Instant::now() >= sweep_at {
                sweep_at = Instant::now() + SWEEP_EVERY;
                self.sweep_floors(&generations).await?;
            }
            let step = match file.job.clone().filter(|job| job.state.is_running()) {
                Some(job) => self.step(file, job, &generations).await,
                None => self.rest(file, &generations).await,
            };
            let pause = match step {
                Err(StepError::Moved(moved @ WriteError::Moved { .. })) => {
                    debug!(%moved, "the job was written meanwhile, deciding the step again");
                    PROGRESS_EVERY
                }
                step => step?,
            };
            self.nudge.conductor(pause).await;
        }
    }

    /// Takes the next step of a running job and returns when to look again.
    pub(super) async fn step(&self, file: JobFile, job: Job, generations: &Generations) -> Result<Duration, StepError> {
        let Some(generation) = job.generation else {
            return self.make_generation(file, job, generations).await;
        };
        if !generations.all.contains(&generation) {
            return self.give_up(file, job, "the new generation was removed from the index".to_owned()).await;
        }
        if generations.active.is_none() && job.previous.is_some() {
            // The active generation was removed by hand. What is being built is all there is.
            let job = Job { previous: None, ..job };
            file.save(self.backends.store(), job).await?;
            return Ok(Duration::ZERO);
        }
        if generations.active != job.previous && generations.active != Some(generation) {
            let reason = "another generation answers the queries than when the job began".to_owned();
            return self.give_up(file, job, reason).await;
        }
        match job.state {
            JobState::Replaying => self.await_replay(file, job, generation).await,
            JobState::CatchingUp => self.await_targets(file, job, generation).await,
            JobState::Verifying => self.verify(file, job, generation).await,
            JobState::Switching => self.switch_queries(file, job, generation).await,
            JobState::Done | JobState::Failed | JobState::Cancelled => Ok(Duration::ZERO),
        }
    }

    async fn make_generation(&self, file: JobFile, job: Job, generations: &Generations) -> Result<Duration, StepError> {
        // Only two generations at a time: the one kept for a rollback makes room for the new one, and so does one that
        // was made for this job but is not named by it.
        let file = self.write_and_discard(file, job.clone(), generations, &[generations.active]).await?;
        let generation = self.backends.index().create().await?;
        info!(job = %job.id, %generation, purpose = ?job.purpose, "rebuild started");
        file.save(self.backends.store(), Job { generation: Some(generation), ..job }).await?;
        self.nudge.all();
        Ok(PROGRESS_EVERY)
    }

    async fn await_replay(&self, file: JobFile, job: Job, generation: Generation) -> Result<Duration, StepError> {
        for partition in self.config.partitions.all() {
            let checkpoint = self.backends.index().checkpoint(generation, partition).await?;
            if !checkpoint.is_some_and(|checkpoint| matches!(checkpoint.phase, Phase::Live { .. })) {
                return Ok(PROGRESS_EVERY);
            }
        }
        self.note_targets(file, job).await
    }

    async fn note_targets(&self, file: JobFile, job: Job) -> Result<Duration, StepError> {
        let mut targets = Vec::new();
        for partition in self.config.partitions.all() {
            let extent = self.backends.log().extent(partition).await?;
            targets.push(Target { partition, incarnation: extent.incarnation, offset: extent.last });
        }
        info!(job = %job.id, "rebuild catches up");
        file.save(self.backends.store(), Job { targets, state: JobState::CatchingUp, ..job }).await?;
        Ok(Duration::ZERO)
    }

    async fn await_targets(&self, file: JobFile, job: Job, generation: Generation) -> Result<Duration, StepError> {
        // None are noted yet, or by a process with another number of partitions.
        if job.targets.len() != usize::from(self.config.partitions.partitions()) {
            return self.note_targets(file, job).await;
        }
        for target in &job.targets {
            let checkpoint = self.backends.index().checkpoint(generation, target.partition).await?;
            let Some(checkpoint) = checkpoint else { return Ok(PROGRESS_EVERY) };
            if checkpoint.incarnation != target.incarnation {
                // The partition has a new incarnation: its old end will never be reached. The worker finds its way into
                // the new one meanwhile.
                self.note_targets(file, job).await?;
                return Ok(PROGRESS_EVERY);
            }
            if !matches!(checkpoint.phase, Phase::Live { .. }) || checkpoint.offset < target.offset {
                // In a quiet bank a log that has lost the noted end might never come as far again. Whether anything is
                // missing is for the verification to say.
                let extent = self.backends.log().extent(target.partition).await?;
                if extent.has_lost(&target.incarnation, target.offset) {
                    self.note_targets(file, job).await?;
                }
                return Ok(PROGRESS_EVERY);
            }
        }
        let next = match job.purpose {
            Purpose::Rebuild | Purpose::Restore => JobState::Verifying,
            // It answered queries before, and a rollback must not take longer than a switch.
            Purpose::Rollback => JobState::Switching,
        };
        info!(job = %job.id, state = ?next, "rebuild has caught up");
        file.save(self.backends.store(), Job { state: next, ..job }).await?;
        Ok(Duration::ZERO)
    }

    async fn verify(&self, file: JobFile, job: Job, generation: Generation) -> Result<Duration, StepError> {
        self.backends.index().prepare(generation).await?;
        let patience = verification_patience(self.config.lease_ttl);
        let verifying = verify(&self.backends, generation, self.config.partitions, patience, &self.right_of_way);
        let verification = tokio::select! {
            biased;
            () = self.job_is_another_than(&job) => return Ok(Duration::ZERO),
            verification = verifying => verification?,
        };
        let clean = verification.is_clean();
        let checked = verification.checked;
        let job = Job { verification: Some(verification), ..job };
        if !clean {
            return self.give_up(file, job, "the new generation differs from the store".to_owned()).await;
        }
        info!(job = %job.id, checked, "rebuild is verified");
        file.save(self.backends.store(), Job { state: JobState::Switching, ..job }).await?;
        Ok(Duration::ZERO)
    }

    /// Waits until the job was cancelled or advanced by another conductor. In a discarded generation everything looks
    /// missing, and finding that out takes longer the larger the bank is.
    async fn job_is_another_than(&self, job: &Job) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // If the job cannot be read, the verification cannot be noted either, and the step is taken again.
            let file = JobFile::load(self.backends.store()).await;
            if file.is_ok_and(|file| file.job.as_ref() != Some(job)) {
                return;
            }
        }
    }

    async fn switch_queries(&self, file: JobFile, job: Job, generation: Generation) -> Result<Duration, StepError> {
        match switch(&self.backends, self.config.partitions, &job, generation).await {
            Ok(()) => {}
            Err(SwitchError::Refused(reason)) => return self.give_up(file, job, reason).await,
            Err(SwitchError::Apply(failure)) => return Err(failure.into()),
            Err(SwitchError::Backend(failure)) => return Err(failure.into()),
        }
        let now = self.clock.now();
        let keep = job.previous.map(|_| now.plus(self.config.keep_previous));
        let done = Job { keep_previous_until: keep, ..job.finished(JobState::Done, now) };
        file.save(self.backends.store(), done.clone()).await?;
        info!(job = %done.id, %generation, "rebuild done, the new generation answers");
        counter!(REBUILDS.name, "result" => "done").increment(1);
        self.nudge.all();
        if let Err(failure) = note_by_job(self.backends.store(), &done).await {
            debug!(job = %done.id, %failure, "its verification is not noted yet");
        }
        Ok(Duration::ZERO)
    }

    async fn give_up(&self, file: JobFile, job: Job, reason: String) -> Result<Duration, StepError> {
        let failed = job.given_up(JobState::Failed, Some(reason), self.clock.now());
        file.save(self.backends.store(), failed.clone()).await?;
        // Only now: a conductor that was frozen may take a job for failed that has gone on without it.
        error!(job = %failed.id, reason = failed.failure.as_deref(), "rebuild failed, what it has built does not answer queries");
        counter!(REBUILDS.name, "result" => "failed").increment(1);
        self.nudge.all();
        Ok(Duration::ZERO)
    }

    /// While no job runs: cleans up, and restores a missing view.
    pub(super) async fn rest(&self, file: JobFile, generations: &Generations) -> Result<Duration, StepError> {
        if generations.active.is_none() {
            let id = JobId(self.ids.commit().uuid());
            if file.job.is_none() {
                info!(job = %id, "first start, building the view from the store");
            } else {
                warn!(job = %id, "there is no active generation, restoring the view from the store");
            }
            let job = Job::new(id, Purpose::Restore, None, self.clock.now());
            file.save(self.backends.store(), job).await?;
            self.nudge.all();
            return Ok(Duration::ZERO);
        }
        // Generations come from jobs. Those of an older bank are discarded with the first one.
        let Some(job) = file.job.clone() else { return Ok(LOOK_EVERY) };
        if job.has_lost_switch(generations) {
            let reason = "the index has lost the switch: the previous generation answers the queries".to_owned();
            return self.give_up(file, Job { keep_previous_until: None, ..job }, reason).await;
        }
        let now = self.clock.now();
        let keep = [generations.active, job.kept(now)];
        if generations.all.iter().any(|generation| !keep.contains(&Some(*generation))) {
            // A rollback whose clock is behind would still ask for what is about to be discarded.
            let keep_previous_until = job.keep_previous_until.filter(|until| now < *until);
            self.write_and_discard(file, Job { keep_previous_until, ..job }, generations, &keep).await?;
        }
        Ok(LOOK_EVERY)
    }

    /// Lifts every seal but that of the running job. A job that is over has lifted its own, but its call to seal may
    /// have arrived after that, and would block the next job for ever. A conductor that still believes in such a job
    /// can no longer switch, because a promotion requires the seal.
    async fn lift_seals(&self, generations: &Generations) -> Result<(), BackendError> {
        if generations.sealed.is_empty() {
            return Ok(());
        }
        // Read after the seals: the job of any other seal is over by now, and never begins again.
        let job = JobFile::load(self.backends.store()).await?.job;
        let running = job.filter(|job| job.state.is_running()).map(|job| job.seal());
        for (generation, seal) in generations.sealed.iter().filter(|(_, seal)| Some(*seal) != running) {
            warn!(%generation, "lifting the seal of a job that is over");
            self.backends.index().unseal(*generation, *seal).await?;
        }
        Ok(())
    }

    async fn sweep_floors(&self, generations: &Generations) -> Result<(), BackendError> {
        let swept = sweep_floors(self.backends.store(), &generations.all).await?;
        if swept > 0 {
            info!(swept, "floors of generations that are gone removed");
        }
        Ok(())
    }

    /// Discards generations that were listed after the job was read, if the job has not been written since. It is
    /// written first, so that nobody can name one of them any more (law B7). Reading it again would not do: whoever has
    /// made one of them may still be about to name it.
    pub(super) async fn write_and_discard(
        &self,
        file: JobFile,
        job: Job,
        generations: &Generations,
        keep: &[Option<Generation>],
    ) -> Result<JobFile, StepError> {
        let file = file.save(self.backends.store(), job).await?;
        for generation in generations.all.iter().filter(|generation| !keep.contains(&Some(**generation))) {
            discard(&self.backends, *generation).await?;
        }
        Ok(file)
    }
}
