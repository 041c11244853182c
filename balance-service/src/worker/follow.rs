//! Following the log: while one batch is being projected, the next one is read ([`super::batches`] decides its size),
//! and the checkpoint follows beside both ([`super::checkpointing`]).

use std::time::Duration;

use metrics::histogram;
use shared::backends::Backends;
use shared::clock::Timestamp;
use shared::coordinate::Offset;
use shared::index::Checkpoint;
use shared::log::{Incarnation, PartitionLog, PartitionReader, Record};
use shared::telemetry::metric::VISIBLE_SECONDS;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::batches::Batches;
use super::project::Cache;
use super::{Stopped, Worker, WorkerError, stopped_reading};

impl<B: Backends> Worker<B> {
    /// Projects what the log yields after the checkpoint.
    pub(super) async fn follow(&self, mut checkpoint: Checkpoint, shutdown: &CancellationToken) -> Result<(), Stopped> {
        // The first write under a new epoch: from here on, a worker of a lower epoch is refused.
        if checkpoint.epoch != self.epoch {
            checkpoint.epoch = self.epoch;
            self.note(checkpoint.clone()).await?;
        }
        let log = self.backends.log();
        let _written_here = self.visibility.written_here(self.slots);
        let reader =
            log.reader(self.partition, &checkpoint.incarnation, checkpoint.offset).await.map_err(stopped_reading)?;
        info!(generation = %self.generation, partition = %self.partition, epoch = %self.epoch,
            offset = %checkpoint.offset, "worker follows the log");
        let incarnation = checkpoint.incarnation.clone();
        let (reach, reached) = watch::channel(checkpoint.offset);
        tokio::try_join!(
            self.project_all(reader, &incarnation, reach, shutdown),
            self.keep_checkpoint(checkpoint, reached),
        )?;
        Ok(())
    }

    /// Projects until shutdown, and tells `reach` how far everything is written.
    async fn project_all<R: PartitionReader>(
        &self,
        mut reader: R,
        incarnation: &Incarnation,
        reach: watch::Sender<Offset>,
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped> {
        let (mut cache, mut last_repair) = (Cache::new(), None);
        let mut batches = Batches::new(self.roster.clone(), self.generation, self.partition);
        let mut batch = Vec::new();
        loop {
            let reading = batches.next(&mut reader, &self.clock, shutdown);
            let (projected, read) = tokio::join!(self.project_batch(&mut cache, batch, incarnation, &reach), reading);
            projected?;
            self.carry_out_repair(&mut cache, &mut last_repair).await;
            let Some(read) = read else { return Ok(()) };
            batch = read.map_err(stopped_reading)?;
        }
    }

    async fn project_batch(
        &self,
        cache: &mut Cache,
        batch: Vec<Record>,
        incarnation: &Incarnation,
        reach: &watch::Sender<Offset>,
    ) -> Result<(), WorkerError> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        self.lag.read(first.recorded.time);
        let (last, newest) = (last.offset, last.recorded.time);
        let committed: Vec<Timestamp> = batch.iter().map(|record| record.recorded.time).collect();
        self.project(cache, batch).await?;
        reach.send_replace(last);
        self.lag.reached(incarnation, last, Some(newest));
        if self.roster.is_active(self.generation) {
            self.report_shown(&committed);
        }
        Ok(())
    }

    /// Reports to the metrics and to the right of way how long the events that are now visible have waited.
    fn report_shown(&self, committed: &[Timestamp]) {
        let (now, visible) = (self.clock.now(), histogram!(VISIBLE_SECONDS.name));
        let mut longest = Duration::ZERO;
        for time in committed {
            let waited = time.until(now);
            visible.record(waited);
            longest = longest.max(waited);
        }
        self.right_of_way.shown_after(longest);
    }
}
