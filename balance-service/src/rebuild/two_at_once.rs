//! Two conductors of one job: one was frozen anywhere in a step, and goes on after the other has taken over.

use std::time::Duration;

use shared::backends::Backends;
use shared::clock::{Clock, Timestamp};
use shared::coordinate::{Epoch, Offset};
use shared::id::Ids;
use shared::index::{BalanceIndex, Checkpoint, EmbeddedIndex, Generation, Generations, Phase, Projected};
use shared::log::{Incarnation, PartitionLog};
use shared::partition::{Partition, PartitionMap};
use shared::store::{EmbeddedStore, WriteError};
use shared::telemetry::install_metrics;
use shared::telemetry::metric::{REBUILD_RUNNING, REBUILDS};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::conductor::StepError;
use super::{Conductor, Job, JobFile, JobState, Purpose, RebuildRefusal, Rebuilds, Target};
use crate::nudge::Nudge;
use crate::right_of_way::RightOfWay;
use crate::roster::{Roster, keep_roster};
use crate::testing::{Embedded, config, embedded, shown};

/// A bank without events, and what its conductors do. They differ only in what they have read.
struct Bank {
    conductor: Conductor<Embedded>,
    rebuilds: Rebuilds<Embedded>,
    /// The generation that answers queries at the beginning.
    first: Generation,
    _folder: TempDir,
}

/// What a conductor has read when it begins a step.
#[derive(Clone)]
struct Look {
    file: JobFile,
    job: Job,
    generations: Generations,
}

impl Bank {
    async fn open() -> Self {
        let partitions = PartitionMap::new(1).unwrap();
        let (backends, folder) = embedded(partitions).await;
        let first = backends.index.create().await.unwrap();
        backends.index.promote(first, None).await.unwrap();
        let (clock, config, nudge) = (Clock::system(), config(partitions), Nudge::default());
        let ids = Ids::new(clock.clone());
        let rebuilds = Rebuilds::new(backends.clone(), partitions, clock.clone(), ids.clone(), nudge.clone());
        let conductor = Conductor { backends, config, clock, ids, nudge, right_of_way: RightOfWay::default() };
        Self { conductor, rebuilds, first, _folder: folder }
    }

    /// A bank with a job that has no generation yet.
    async fn rebuilding() -> Self {
        let bank = Self::open().await;
        bank.rebuilds.start().await.unwrap();
        bank
    }

    const fn store(&self) -> &EmbeddedStore {
        &self.conductor.backends.store
    }

    const fn index(&self) -> &EmbeddedIndex {
        &self.conductor.backends.index
    }

    async fn look(&self) -> Look {
        let file = JobFile::load(self.store()).await.unwrap();
        let job = file.job.clone().unwrap();
        Look { file, job, generations: self.index().generations().await.unwrap() }
    }

    async fn step(&self, Look { file, job, generations }: Look) -> Result<Duration, StepError> {
        self.conductor.step(file, job, &generations).await
    }

    /// The first half of the step in which a generation is made, up to its creation.
    async fn make(&self, look: &Look) -> (JobFile, Generation) {
        let Look { file, job, generations } = look.clone();
        let keep = [generations.active];
        let file = self.conductor.write_and_discard(file, job, &generations, &keep).await.unwrap();
        (file, self.index().create().await.unwrap())
    }

    /// The second half.
    async fn name(&self, look: Look, (file, made): (JobFile, Generation)) -> Result<JobFile, WriteError> {
        file.save(self.store(), Job { generation: Some(made), ..look.job }).await
    }

    /// The worker of the new generation has nothing to fold.
    async fn fill(&self, generation: Generation) {
        let partition = Partition::new(1);
        let extent = self.conductor.backends.log().extent(partition).await.unwrap();
        let checkpoint = Checkpoint {
            partition,
            epoch: Epoch::new(1),
            incarnation: extent.incarnation,
            offset: extent.last,
            phase: Phase::Live { replayed: 0 },
        };
        let projected = Projected { checkpoint: Some(checkpoint), ..Projected::default() };
        self.index().apply(generation, &projected).await.unwrap();
    }

    /// Carries the job out, and returns what was read before each of its steps.
    async fn carry_out(&self) -> Vec<Look> {
        let mut looks = Vec::new();
        loop {
            let look = self.look().await;
            if !look.job.state.is_running() {
                assert_eq!(look.job.state, JobState::Done);
                return looks;
            }
            looks.push(look.clone());
            self.step(look).await.unwrap();
            if let Some(generation) = self.look().await.job.generation {
                self.fill(generation).await;
            }
        }
    }

    /// Asserts that a job names a generation, and that it exists.
    async fn assert_named(&self, made: Generation) {
        let Look { job, generations, .. } = self.look().await;
        assert_eq!((job.state, job.generation), (JobState::Replaying, Some(made)));
        assert!(generations.all.contains(&made), "{generations:?}");
    }
}

const fn is_moved(step: &Result<Duration, StepError>) -> bool {
    matches!(step, Err(StepError::Moved(WriteError::Moved { .. })))
}

#[tokio::test]
async fn a_generation_that_another_conductor_has_discarded_is_not_named() {
    let bank = Bank::rebuilding().await;
    let frozen = bank.look().await;
    let made_first = bank.make(&frozen).await;
    let other = bank.look().await;
    let made_then = bank.make(&other).await;
    let (first, then) = (made_first.1, made_then.1);
    assert_eq!(bank.index().generations().await.unwrap().all, [bank.first, then], "{first} made room");
    let named = bank.name(frozen, made_first).await;
    assert!(matches!(named, Err(WriteError::Moved { .. })), "{named:?}");
    bank.name(other, made_then).await.unwrap();
    bank.assert_named(then).await;
}

#[tokio::test]
async fn a_generation_that_is_named_is_not_discarded_by_a_conductor_that_saw_it_nameless() {
    let bank = Bank::rebuilding().await;
    let maker = bank.look().await;
    let made = bank.make(&maker).await;
    let generation = made.1;
    let frozen = bank.look().await;
    assert_eq!(frozen.generations.all, [bank.first, generation]);
    bank.name(maker, made).await.unwrap();
    let late = bank.step(frozen).await;
    assert!(is_moved(&late), "{late:?}");
    bank.assert_named(generation).await;
    assert_eq!(bank.look().await.generations.all, [bank.first, generation], "nothing else was made");
}

#[tokio::test]
async fn a_generation_whose_job_was_cancelled_before_it_was_named_is_cleaned_up() {
    let bank = Bank::rebuilding().await;
    let maker = bank.look().await;
    let made = bank.make(&maker).await;
    bank.rebuilds.cancel().await.unwrap();
    let named = bank.name(maker, made).await;
    assert!(matches!(named, Err(WriteError::Moved { .. })), "{named:?}");
    let Look { file, generations, .. } = bank.look().await;
    bank.conductor.rest(file, &generations).await.unwrap();
    assert_eq!(bank.look().await.generations.all, [bank.first]);
}

/// Goal: a rollback that was decided at the very end of the time, or by a clock that is behind, is told that it is too
/// late instead of failing without a reason.
#[tokio::test]
async fn a_rollback_that_was_decided_before_the_kept_generation_was_discarded_is_refused() {
    let bank = Bank::rebuilding().await;
    let look = bank.look().await;
    let kept = bank.index().create().await.unwrap();
    let id = look.job.id;
    let over = Job {
        state: JobState::Done,
        previous: Some(kept),
        generation: Some(bank.first),
        keep_previous_until: Some(Timestamp::EPOCH),
        ..look.job
    };
    let decided = look.file.save(bank.store(), over).await.unwrap();
    let Look { file, generations, .. } = bank.look().await;
    bank.conductor.rest(file, &generations).await.unwrap();
    let Look { job, generations, .. } = bank.look().await;
    assert_eq!((generations.all, job.keep_previous_until), (vec![bank.first], None));
    let rollback = Job::new(id, Purpose::Rollback, Some(bank.first), Timestamp::EPOCH);
    let begun = decided.save(bank.store(), Job { generation: Some(kept), ..rollback }).await;
    assert!(matches!(begun, Err(WriteError::Moved { .. })), "{begun:?}");
    assert!(matches!(bank.rebuilds.rollback().await, Err(RebuildRefusal::NoPrevious)));
}

#[tokio::test]
async fn a_conductor_that_was_frozen_before_any_step_changes_nothing_in_the_next_job() {
    let bank = Bank::rebuilding().await;
    let frozen = bank.carry_out().await;
    assert_eq!(frozen.len(), 5, "the generation is made, then four states pass");
    bank.rebuilds.start().await.unwrap();
    bank.step(bank.look().await).await.unwrap();
    let next = bank.look().await;
    for look in frozen {
        let state = look.job.state;
        let late = bank.step(look).await;
        // A verification is given up as soon as the job is another.
        assert!(is_moved(&late) || (state == JobState::Verifying && late.is_ok()), "{state:?}: {late:?}");
        let now = bank.look().await;
        assert_eq!((now.job, now.generations), (next.job.clone(), next.generations.clone()), "{state:?}");
    }
}

/// Goal: a rebuild is not called lost, and the way back is not cut off, because one of several servers of an index has
/// not learned of the switch yet.
#[tokio::test]
async fn a_conductor_that_reads_the_generations_from_before_the_switch_changes_nothing() {
    let bank = Bank::rebuilding().await;
    let switching = bank.carry_out().await.pop().unwrap();
    let done = bank.look().await;
    let before = switching.generations;
    assert_eq!((before.active, before.all.len()), (Some(bank.first), 2));
    bank.conductor.rest(done.file, &before).await.unwrap();
    let now = bank.look().await;
    assert_eq!((now.job, now.generations), (done.job, done.generations));
}

/// Goal: a job that was catching up when the bank got another number of partitions waits for those that are there now.
#[tokio::test]
async fn ends_that_a_conductor_with_other_partitions_has_noted_are_noted_anew() {
    let bank = Bank::rebuilding().await;
    bank.step(bank.look().await).await.unwrap();
    let Look { file, job, .. } = bank.look().await;
    let former = |number| Target {
        partition: Partition::new(number),
        incarnation: Incarnation("former".into()),
        offset: Offset::new(1),
    };
    let catching_up = Job { state: JobState::CatchingUp, targets: vec![former(1), former(2)], ..job };
    file.save(bank.store(), catching_up).await.unwrap();
    bank.step(bank.look().await).await.unwrap();
    let Look { job, .. } = bank.look().await;
    let awaited: Vec<Partition> = job.targets.iter().map(|target| target.partition).collect();
    assert_eq!((job.state, awaited), (JobState::CatchingUp, vec![Partition::new(1)]));
}

#[tokio::test]
async fn a_job_that_failed_is_counted_by_the_conductor_that_noted_it_alone() {
    let metrics = install_metrics().unwrap();
    let bank = Bank::rebuilding().await;
    bank.step(bank.look().await).await.unwrap();
    let generation = bank.look().await.job.generation.unwrap();
    bank.index().discard(generation).await.unwrap();
    let [frozen, other] = [bank.look().await, bank.look().await];
    bank.step(other).await.unwrap();
    assert_eq!(bank.look().await.job.state, JobState::Failed);
    let late = bank.step(frozen).await;
    assert!(is_moved(&late), "{late:?}");
    let counted = format!("{}{{result=\"failed\"}} 1", REBUILDS.name);
    assert!(metrics.render().lines().any(|line| line == counted), "{}", metrics.render());
}

/// Goal: a process that has lost the lease in the middle of a job does not show for ever that a rebuild is running.
#[tokio::test]
async fn a_process_that_does_not_conduct_shows_whether_a_rebuild_is_running() {
    let metrics = install_metrics().unwrap();
    let bank = Bank::rebuilding().await;
    let Conductor { backends, clock, nudge, .. } = bank.conductor.clone();
    let shutdown = CancellationToken::new();
    let looking = keep_roster(backends, clock, nudge, Roster::default(), shutdown.clone());
    let asking = async {
        shown(&metrics, &format!("{} 1", REBUILD_RUNNING.name)).await;
        bank.rebuilds.cancel().await.unwrap();
        shown(&metrics, &format!("{} 0", REBUILD_RUNNING.name)).await;
        shutdown.cancel();
    };
    let (looked, ()) = tokio::join!(looking, asking);
    looked.unwrap();
}
