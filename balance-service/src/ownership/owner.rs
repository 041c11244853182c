//! The owner of one partition: runs a worker for each generation to feed, and the comparison of heads.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::counter;
use shared::backends::Backends;
use shared::coordinate::Epoch;
use shared::index::Generation;
use shared::partition::Partition;
use shared::supervise::RestartDelays;
use shared::telemetry::metric::{
    ACCOUNTS_HEALED, ACCOUNTS_PARKED, AHEAD_OF_STORE, DOCUMENTS_REPAIRED, Metric, WORKER_FAILURES,
};
use shared::telemetry::show_from_the_start;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Ownership;
use crate::worker::{Lags, Worker, WorkerError, keep_reconciling};

/// Counters of a partition that alarms watch: exported from the start, so that the first increment shows as one.
const WATCHED: &[Metric] = &[AHEAD_OF_STORE, ACCOUNTS_HEALED, ACCOUNTS_PARKED, DOCUMENTS_REPAIRED];

/// Why a partition is given up before its lease ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnerError {
    /// Another process owns it under a higher epoch.
    #[error("the partition belongs to {0}")]
    Fenced(Epoch),
}

/// One owned partition.
pub(super) struct PartitionOwner<B> {
    ownership: Ownership<B>,
    partition: Partition,
    epoch: Epoch,
    shutdown: CancellationToken,
    lags: Lags,
}

/// The workers of a partition, one for each generation that is fed.
#[derive(Default)]
struct Workers {
    running: BTreeMap<Generation, (AbortHandle, CancellationToken)>,
    tasks: JoinSet<Result<(), Epoch>>,
}

impl<B: Backends> PartitionOwner<B> {
    pub(super) fn new(
        ownership: &Ownership<B>,
        partition: Partition,
        epoch: Epoch,
        shutdown: CancellationToken,
    ) -> Self {
        Self { ownership: ownership.clone(), partition, epoch, shutdown, lags: Lags::default() }
    }

    /// Works until asked to stop, or until another process turns out to own the partition. The lag of the workers is
    /// measured throughout, even while they fail or wait.
    pub(super) async fn run(self) -> Result<(), OwnerError> {
        show_from_the_start(WATCHED, self.partition);
        let Ownership { backends, clock, roster, .. } = &self.ownership;
        tokio::select! {
            biased;
            ended = self.keep_workers() => ended,
            never = self.lags.keep_measuring(self.partition, backends.log(), clock, roster) => match never {},
        }
    }

    async fn keep_workers(&self) -> Result<(), OwnerError> {
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
        // A worker may be waiting for a backend, or for a seal that no process is left to lift. Its work can be dropped
        // at any point, and is repeated from its checkpoint.
        let drained = async { while workers.tasks.join_next().await.is_some() {} };
        if timeout(self.ownership.config.lease_ttl, drained).await.is_err() {
            warn!(partition = %self.partition, "workers have not come to an end in time, dropping them");
        }
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
            lag: self.lags.of(generation),
        };
        let shutdown = self.shutdown.child_token();
        let task = workers.tasks.spawn(keep_working(worker, ownership.config.reconcile_every, shutdown.clone()));
        workers.running.insert(generation, (task, shutdown));
    }
}

impl Workers {
    /// Aborts the workers of generations that are no longer fed. They need no orderly end: their writes in flight are
    /// refused, or skipped by version.
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

/// Runs a worker and restarts it after every failure, except when it is fenced: then returns the epoch of the owner.
async fn keep_working<B: Backends>(
    worker: Worker<B>,
    reconcile_every: Option<Duration>,
    shutdown: CancellationToken,
) -> Result<(), Epoch> {
    let failures = counter!(WORKER_FAILURES.name, "partition" => worker.partition.to_string());
    let mut delays = RestartDelays::default();
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            biased;
            ended = worker.clone().run(shutdown.clone()) => ended,
            never = keep_reconciling(&worker, reconcile_every) => match never {},
        };
        let delay = delays.after(began.elapsed());
        match ended {
            Ok(()) => return Ok(()),
            Err(WorkerError::Fenced { current }) => return Err(current),
            Err(WorkerError::Gone(generation)) => {
                // The roster will soon say so, and then this task is aborted. Otherwise the generation is not gone.
                debug!(%generation, partition = %worker.partition, "generation is gone, worker waits for its end");
            }
            Err(failure) => {
                failures.increment(1);
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
