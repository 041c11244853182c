//! The owner of one partition: a worker for each generation that is to be fed, and the comparison of heads.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::backends::Backends;
use shared::coordinate::Epoch;
use shared::index::Generation;
use shared::partition::Partition;
use shared::supervise::{RESTART_DELAY_MAX, RESTART_DELAY_MIN, STEADY_AFTER};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Ownership;
use crate::reconcile::keep_reconciling;
use crate::worker::{Worker, WorkerError};

/// Why a partition is given up before its lease ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnerError {
    /// Somebody owns it under a higher epoch.
    #[error("the partition belongs to {0}")]
    Fenced(Epoch),
}

/// One owned partition.
pub(super) struct Owner<B> {
    ownership: Ownership<B>,
    partition: Partition,
    epoch: Epoch,
    shutdown: CancellationToken,
}

/// The workers of a partition, one for each generation that is fed.
#[derive(Default)]
struct Workers {
    running: BTreeMap<Generation, (AbortHandle, CancellationToken)>,
    tasks: JoinSet<Result<(), Epoch>>,
}

impl<B: Backends> Owner<B> {
    pub(super) fn new(
        ownership: &Ownership<B>,
        partition: Partition,
        epoch: Epoch,
        shutdown: CancellationToken,
    ) -> Self {
        Self { ownership: ownership.clone(), partition, epoch, shutdown }
    }

    /// Works until asked to stop, or until somebody else turns out to own the partition.
    pub(super) async fn run(self) -> Result<(), OwnerError> {
        let roster = &self.ownership.roster;
        let mut workers = Workers::default();
        loop {
            let fed = roster.fed();
            workers.keep(&fed);
            for generation in &fed {
                self.start(&mut workers, *generation);
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                () = roster.changed_from(&fed) => {}
                Some(ended) = workers.tasks.join_next_with_id() => workers.note_end(self.partition, ended)?,
            }
        }
        for (_, token) in workers.running.values() {
            token.cancel();
        }
        while workers.tasks.join_next().await.is_some() {}
        Ok(())
    }

    fn start(&self, workers: &mut Workers, generation: Generation) {
        if workers.running.contains_key(&generation) {
            return;
        }
        let ownership = &self.ownership;
        let worker = Worker {
            backends: ownership.backends.clone(),
            generation,
            partition: self.partition,
            slots: ownership.config.partitions.slots(self.partition),
            epoch: self.epoch,
            clock: ownership.clock.clone(),
            visibility: ownership.visibility.clone(),
            roster: ownership.roster.clone(),
            right_of_way: ownership.right_of_way.clone(),
        };
        let shutdown = self.shutdown.child_token();
        let task = workers.tasks.spawn(keep_working(worker, ownership.config.reconcile_every, shutdown.clone()));
        workers.running.insert(generation, (task, shutdown));
    }
}

impl Workers {
    /// Ends the workers of generations that are fed no longer. They need no orderly end: what they still have under way
    /// is refused, or skipped by version.
    fn keep(&mut self, fed: &[Generation]) {
        self.running.retain(|generation, (task, _)| {
            let kept = fed.contains(generation);
            if !kept {
                task.abort();
            }
            kept
        });
    }

    /// Forgets a worker that has ended, so that it is started again if its generation is still fed.
    fn note_end(
        &mut self,
        partition: Partition,
        ended: Result<(Id, Result<(), Epoch>), JoinError>,
    ) -> Result<(), OwnerError> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(failure) => failure.id(),
        };
        self.running.retain(|_, (task, _)| task.id() != id);
        match ended {
            Ok((_, Ok(()))) => Ok(()),
            Ok((_, Err(epoch))) => Err(OwnerError::Fenced(epoch)),
            Err(failure) if failure.is_cancelled() => Ok(()),
            Err(panic) => {
                error!(%partition, %panic, "worker died, starting it again");
                Ok(())
            }
        }
    }
}

/// Runs a worker, again after every failure but being fenced: then it answers the epoch of the owner.
async fn keep_working<B: Backends>(
    worker: Worker<B>,
    reconcile_every: Option<Duration>,
    shutdown: CancellationToken,
) -> Result<(), Epoch> {
    let mut restarts = Restarts::default();
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            biased;
            ended = worker.clone().run(shutdown.clone()) => ended,
            never = keep_reconciling(&worker, reconcile_every) => match never {},
        };
        let delay = restarts.after(began.elapsed());
        match ended {
            Ok(()) => return Ok(()),
            Err(WorkerError::Fenced { current }) => return Err(current),
            Err(WorkerError::Gone(generation)) => {
                // The roster will say so in a moment, and then this task is dropped.
                debug!(%generation, partition = %worker.partition, "generation is gone, worker waits for its end");
                shutdown.cancelled().await;
                return Ok(());
            }
            Err(failure) => {
                warn!(generation = %worker.generation, partition = %worker.partition, %failure,
                    delay_ms = delay.as_millis(), "worker failed, starting it again");
            }
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// How long a worker that failed waits: longer each time, unless it had worked well for a while.
#[derive(Default)]
struct Restarts {
    last: Option<Duration>,
}

impl Restarts {
    fn after(&mut self, worked: Duration) -> Duration {
        let last = self.last.filter(|_| worked < STEADY_AFTER);
        let delay = last.map_or(RESTART_DELAY_MIN, |last| (last * 2).min(RESTART_DELAY_MAX));
        self.last = Some(delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_worked_well_for_a_while_waits_as_little_as_a_new_one() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.after(Duration::ZERO), RESTART_DELAY_MIN);
        assert_eq!(restarts.after(Duration::ZERO), RESTART_DELAY_MIN * 2);
        for _ in 0..20 {
            restarts.after(Duration::ZERO);
        }
        assert_eq!(restarts.after(Duration::ZERO), RESTART_DELAY_MAX);
        assert_eq!(restarts.after(STEADY_AFTER), RESTART_DELAY_MIN);
    }
}
