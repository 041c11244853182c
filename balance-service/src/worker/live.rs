//! Following the log: while one batch is being projected, the next one is read ([`super::batches`] decides its size).
//!
//! A checkpoint is a separate write, so it is noted once for several batches, after everything it covers (law W2), and
//! by all workers at the same moments, so that one write carries all of theirs. A crash repeats the batches since the
//! last checkpoint. Queries that wait for a document do not wait for the checkpoint.

use std::time::Duration;

use metrics::histogram;
use shared::backends::Backends;
use shared::clock::Timestamp;
use shared::coordinate::Offset;
use shared::index::{BalanceIndex, Checkpoint};
use shared::log::floor::{Floor, write_floor};
use shared::log::{PartitionLog, Record};
use shared::pace::until_beat;
use shared::telemetry::metric::VISIBLE_SECONDS;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::batches::Batches;
use super::project::Cache;
use super::{Stopped, Worker, WorkerError, stopped_reading};

/// How often a checkpoint is noted while records come: the first at once, the others between two beats, when no
/// documents are written. A crash repeats at most that much.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);

/// How long after a beat checkpoints are noted.
const CHECKPOINT_BEHIND_BEAT: Duration = Duration::from_millis(50);

/// How often this worker tells the forwarder what it no longer needs.
const FLOOR_EVERY: Duration = Duration::from_secs(5);

/// How often the worker checks that its checkpoint is still in the index (law W5).
const CHECKPOINT_LOOK_EVERY: Duration = Duration::from_secs(5);

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
        let mut reader =
            log.reader(self.partition, &checkpoint.incarnation, checkpoint.offset).await.map_err(stopped_reading)?;
        info!(generation = %self.generation, partition = %self.partition, epoch = %self.epoch,
            offset = %checkpoint.offset, "worker follows the log");
        let (mut cache, mut last_repair) = (Cache::new(), None);
        let mut periodic = Periodic::new();
        let mut batches = Batches::new(self.roster.clone(), self.generation, self.partition);
        let mut progress = Progress::at(checkpoint);
        self.lag.reached(&progress.reached.incarnation, progress.reached.offset, None);
        let mut batch = Vec::new();
        loop {
            let has_read = CancellationToken::new();
            let reading = async {
                let read = batches.next(&mut reader, &self.clock, shutdown).await;
                has_read.cancel();
                read
            };
            let (projected, read) =
                tokio::join!(self.project_batch(&mut cache, batch, &mut progress, &has_read), reading);
            projected?;
            self.note_floor(&mut periodic, &progress.noted).await;
            if !self.still_stands(&mut periodic, &progress.noted).await {
                return Err(Stopped::Overwritten);
            }
            self.carry_out_repair(&mut cache, &mut last_repair).await;
            let Some(read) = read else { return Ok(self.note_progress(&mut progress).await?) };
            batch = read.map_err(stopped_reading)?;
        }
    }

    /// Projects a batch, and notes the checkpoint when that is due, unless the next batch is read first.
    async fn project_batch(
        &self,
        cache: &mut Cache,
        batch: Vec<Record>,
        progress: &mut Progress,
        has_read: &CancellationToken,
    ) -> Result<(), WorkerError> {
        if let Some((last, newest)) = batch.last().map(|record| (record.offset, record.recorded.time)) {
            let committed: Vec<Timestamp> = batch.iter().map(|record| record.recorded.time).collect();
            self.project(cache, batch).await?;
            progress.reach(last);
            self.lag.reached(&progress.reached.incarnation, last, Some(newest));
            if self.roster.is_active(self.generation) {
                self.report_shown(&committed);
            }
        }
        let Some(due) = progress.due() else { return Ok(()) };
        tokio::select! {
            biased;
            () = sleep_until(due) => self.note_progress(progress).await,
            () = has_read.cancelled() => Ok(()),
        }
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

    /// Notes the checkpoint that covers everything written.
    async fn note_progress(&self, progress: &mut Progress) -> Result<(), WorkerError> {
        if progress.due().is_some() {
            self.note(progress.reached.clone()).await?;
            progress.noted_at(self.clock.now());
        }
        Ok(())
    }

    /// Whether the checkpoint is still in the index (law W5); assumed unless a look is due and finds another one.
    async fn still_stands(&self, periodic: &mut Periodic, checkpoint: &Checkpoint) -> bool {
        if periodic.looked_at.elapsed() < CHECKPOINT_LOOK_EVERY {
            return true;
        }
        periodic.looked_at = Instant::now();
        let stored = self.backends.index().checkpoint(self.generation, self.partition).await;
        stored.map_or(true, |stored| stored.as_ref() == Some(checkpoint))
    }

    /// Tells the forwarder how far the worker has come. A failure is made up for next time.
    async fn note_floor(&self, periodic: &mut Periodic, checkpoint: &Checkpoint) {
        // Not further than the checkpoint: everything after it would be read again.
        if periodic.floor == Some(checkpoint.offset) || periodic.floor_noted_at.elapsed() < FLOOR_EVERY {
            return;
        }
        periodic.floor_noted_at = Instant::now();
        let floor =
            Floor { partition: self.partition, incarnation: checkpoint.incarnation.clone(), offset: checkpoint.offset };
        match write_floor(self.backends.store(), self.generation, &floor).await {
            Ok(()) => periodic.floor = Some(checkpoint.offset),
            Err(failure) => debug!(partition = %self.partition, %failure, "floor not noted"),
        }
    }
}

/// How far a worker has come.
struct Progress {
    /// The last noted checkpoint.
    noted: Checkpoint,
    /// The checkpoint that covers everything written.
    reached: Checkpoint,
    /// When the next one may be noted.
    next: Instant,
}

impl Progress {
    fn at(checkpoint: Checkpoint) -> Self {
        Self { noted: checkpoint.clone(), reached: checkpoint, next: Instant::now() }
    }

    /// Everything up to this offset is written.
    const fn reach(&mut self, offset: Offset) {
        self.reached.offset = offset;
    }

    /// When the checkpoint of everything written is to be noted; `None` if it has been.
    fn due(&self) -> Option<Instant> {
        (self.reached != self.noted).then_some(self.next)
    }

    /// The checkpoint of everything written was noted just now.
    fn noted_at(&mut self, now: Timestamp) {
        self.noted = self.reached.clone();
        let shifted = now.minus(CHECKPOINT_BEHIND_BEAT);
        self.next = Instant::now() + until_beat(CHECKPOINT_EVERY, shifted);
    }
}

/// When a worker last did what it does from time to time.
struct Periodic {
    floor_noted_at: Instant,
    /// The last floor the forwarder was told of.
    floor: Option<Offset>,
    /// When it last looked whether its checkpoint is still in the index.
    looked_at: Instant,
}

impl Periodic {
    fn new() -> Self {
        let now = Instant::now();
        Self { floor_noted_at: now, floor: None, looked_at: now }
    }
}
