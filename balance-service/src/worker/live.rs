//! Following the log: while one batch is being projected, the next one is read. Small batches follow each other at a
//! [`Pace`], since each costs a write to the index. A worker that is behind gathers larger ones: an account that many
//! records of a batch concern is written once, so the further behind, the faster it catches up.
//!
//! A checkpoint is a write of its own, so it is noted once for several batches, and by all workers at the same
//! moments, so that one write carries theirs; what it stands for is written before (law W2). A crash repeats what came
//! since, and whoever waits for a document does not wait for it.

use std::collections::HashSet;
use std::time::Duration;

use metrics::{gauge, histogram};
use shared::backends::Backends;
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Offset;
use shared::index::{BalanceIndex, Checkpoint, Phase};
use shared::log::floor::{Floor, write_floor};
use shared::log::{PartitionLog, PartitionReader, ReadError, Record};
use shared::pace::{Pace, until_beat};
use shared::telemetry::metric::{LAG_EVENTS, LAG_SECONDS, VISIBLE_SECONDS};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::project::Cache;
use super::{Stopped, Worker, WorkerError, stopped_reading};

/// The most records read at once: two such batches are in memory, one being read, one being projected.
pub(super) const READ_BATCH_MAX: usize = 8_192;

/// A batch of so many records is large enough to be written at once.
const BATCH_ENOUGH: usize = 1_024;

/// How much later an event is shown at most, so that others come with it. Only a worker that gets hundreds of events a
/// second waits so long.
const BEAT: Duration = Duration::from_millis(200);

/// The same when several events of an account come together ([`LONG_BEAT_FROM`]): then most accounts are written once
/// for several, the more the longer is waited. A multiple of [`BEAT`], so that all workers write at common moments.
const LONG_BEAT: Duration = Duration::from_millis(400);

/// A batch with at least so many records for so many accounts is followed by a long beat.
const LONG_BEAT_FROM: (usize, usize) = (3, 2);

/// How small batches follow each other.
const PACE: Pace = Pace::new(Duration::from_millis(2), BEAT, BATCH_ENOUGH);

/// A batch of so many records shows a backlog if they are old: a log may deliver few at a time, however many there are.
const BACKLOG_FROM: usize = 8;

/// A worker whose newest record is older than this is behind.
const BEHIND_AFTER: Duration = Duration::from_secs(1);

/// For which part of what its events are late by already a worker that is behind gathers a batch.
const GATHER_PART: u32 = 4;

/// How long it gathers at most.
const GATHER_MAX: Duration = Duration::from_secs(2);

/// How long it waits for more when nothing comes: the backlog has come to its end.
const GATHER_QUIET: Duration = Duration::from_millis(200);

/// How often a checkpoint is noted while records come: the first at once, the others between two beats of [`PACE`],
/// when documents are not written. A crash repeats at most that much.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);

/// How long after a beat checkpoints are noted.
const CHECKPOINT_BEHIND_BEAT: Duration = Duration::from_millis(50);

/// How often the forwarder is told what this worker needs no more.
const FLOOR_EVERY: Duration = Duration::from_secs(5);

/// How often the worker looks whether its checkpoint still stands in the index (law W5).
const CHECKPOINT_LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often the lag is measured.
const LAG_EVERY: Duration = Duration::from_secs(1);

impl<B: Backends> Worker<B> {
    /// Projects what the log yields behind the checkpoint.
    pub(super) async fn follow(&self, mut checkpoint: Checkpoint, shutdown: &CancellationToken) -> Result<(), Stopped> {
        // The first thing written under a new epoch: from here on a worker of a lower epoch is refused.
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
        let mut cache = Cache::new();
        let mut report = Report::new();
        let mut pace = PACE;
        let mut progress = Progress::at(checkpoint);
        let mut batch = Vec::new();
        loop {
            report.newest = batch.last().map(|record: &Record| record.recorded.time).or(report.newest);
            let has_read = CancellationToken::new();
            let reading = async {
                let read = next_batch(&mut reader, &mut pace, &self.clock, shutdown).await;
                has_read.cancel();
                read
            };
            let (projected, read) =
                tokio::join!(self.project_batch(&mut cache, batch, &mut progress, &has_read), reading);
            projected?;
            self.report(&mut report, &progress).await;
            if !self.still_stands(&mut report, &progress.noted).await {
                return Err(Stopped::Overwritten);
            }
            let Some(read) = read else { return Ok(self.note_progress(&mut progress).await?) };
            batch = read.map_err(stopped_reading)?;
        }
    }

    /// Projects a batch, and notes the checkpoint when that is due, unless the next batch is there first.
    async fn project_batch(
        &self,
        cache: &mut Cache,
        batch: Vec<Record>,
        progress: &mut Progress,
        has_read: &CancellationToken,
    ) -> Result<(), WorkerError> {
        if let Some(last) = batch.last().map(|record| record.offset) {
            let committed: Vec<Timestamp> = batch.iter().map(|record| record.recorded.time).collect();
            self.project(cache, batch).await?;
            progress.reach(last);
            let now = self.clock.now();
            let visible = histogram!(VISIBLE_SECONDS.name);
            for time in committed {
                visible.record(time.until(now));
            }
        }
        let Some(due) = progress.due() else { return Ok(()) };
        tokio::select! {
            biased;
            () = sleep_until(due) => self.note_progress(progress).await,
            () = has_read.cancelled() => Ok(()),
        }
    }

    /// Notes the checkpoint of everything that is written.
    async fn note_progress(&self, progress: &mut Progress) -> Result<(), WorkerError> {
        if progress.due().is_some() {
            self.note(progress.reached.clone()).await?;
            progress.noted_at(self.clock.now());
        }
        Ok(())
    }

    /// Whether the checkpoint stands in the index (law W5), as far as that can be told now.
    async fn still_stands(&self, report: &mut Report, checkpoint: &Checkpoint) -> bool {
        if report.looked_at.elapsed() < CHECKPOINT_LOOK_EVERY {
            return true;
        }
        report.looked_at = Instant::now();
        let stored = self.backends.index().checkpoint(self.generation, self.partition).await;
        stored.map_or(true, |stored| stored.as_ref() == Some(checkpoint))
    }

    /// Tells the forwarder and the metrics how far the worker has come. What fails here is told next time.
    async fn report(&self, report: &mut Report, progress: &Progress) {
        if report.lag_at.elapsed() >= LAG_EVERY {
            report.lag_at = Instant::now();
            self.report_lag(report, &progress.reached).await;
        }
        // What is behind the checkpoint would be read again.
        let checkpoint = &progress.noted;
        if report.floor != Some(checkpoint.offset) && report.floor_at.elapsed() >= FLOOR_EVERY {
            report.floor_at = Instant::now();
            let floor = Floor {
                partition: self.partition,
                incarnation: checkpoint.incarnation.clone(),
                offset: checkpoint.offset,
            };
            match write_floor(self.backends.store(), self.generation, &floor).await {
                Ok(()) => report.floor = Some(checkpoint.offset),
                Err(failure) => debug!(partition = %self.partition, %failure, "floor not noted"),
            }
        }
    }

    async fn report_lag(&self, report: &Report, checkpoint: &Checkpoint) {
        debug_assert!(matches!(checkpoint.phase, Phase::Live { .. }), "only a live worker lags behind the log");
        let Ok(extent) = self.backends.log().extent(self.partition).await else { return };
        let behind = extent.last.get().saturating_sub(checkpoint.offset.get());
        let labels = [("partition", self.partition.to_string()), ("generation", self.generation.to_string())];
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; lags beyond 2^52 writes do not occur")]
        gauge!(LAG_EVENTS.name, &labels).set(behind as f64);
        let age = report.newest.filter(|_| behind > 0).map_or(Duration::ZERO, |time| time.until(self.clock.now()));
        gauge!(LAG_SECONDS.name, &labels).set(age);
    }
}

/// How far a worker has come.
struct Progress {
    /// The checkpoint that was noted last.
    noted: Checkpoint,
    /// The checkpoint of everything that is written.
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

    /// When the checkpoint of what is written is to be noted; nothing if it is.
    fn due(&self) -> Option<Instant> {
        (self.reached != self.noted).then_some(self.next)
    }

    /// The checkpoint of what is written was noted just now.
    fn noted_at(&mut self, now: Timestamp) {
        self.noted = self.reached.clone();
        let shifted = now.minus(CHECKPOINT_BEHIND_BEAT);
        self.next = Instant::now() + until_beat(CHECKPOINT_EVERY, shifted);
    }
}

/// When the forwarder and the metrics were last told.
struct Report {
    lag_at: Instant,
    floor_at: Instant,
    looked_at: Instant,
    floor: Option<Offset>,
    newest: Option<Timestamp>,
}

impl Report {
    fn new() -> Self {
        let now = Instant::now();
        Self { lag_at: now, floor_at: now, looked_at: now, floor: None, newest: None }
    }
}

async fn next_batch<R: PartitionReader>(
    reader: &mut R,
    pace: &mut Pace,
    clock: &Clock,
    shutdown: &CancellationToken,
) -> Option<Result<Vec<Record>, ReadError>> {
    let paced = async {
        pace.wait().await;
        let mut batch = reader.next_batch(READ_BATCH_MAX).await?;
        if let Some(late) = backlog(&batch, clock.now()) {
            gather(reader, &mut batch, GATHER_MAX.min(late / GATHER_PART)).await?;
        }
        Ok(batch)
    };
    let batch = tokio::select! {
        biased;
        () = shutdown.cancelled() => return None,
        batch = paced => batch,
    };
    let taken = batch.as_deref().unwrap_or_default();
    pace.wait_at_most(beat_after(taken));
    pace.taken_on_beat(taken.len(), clock.now());
    Some(batch)
}

/// How long may be waited after a batch.
fn beat_after(batch: &[Record]) -> Duration {
    let accounts = batch.iter().map(|record| record.recorded.stream).collect::<HashSet<_>>().len();
    let (records, for_accounts) = LONG_BEAT_FROM;
    if accounts > 0 && batch.len() * for_accounts >= accounts * records { LONG_BEAT } else { BEAT }
}

/// How late records are that show a backlog; nothing if they show none. Their number counts as well as their age: where
/// the clocks of two machines differ, a lone record does not wait for others.
fn backlog(batch: &[Record], now: Timestamp) -> Option<Duration> {
    let newest = batch.last().filter(|_| batch.len() >= BACKLOG_FROM)?;
    Some(newest.recorded.time.until(now)).filter(|late| *late > BEHIND_AFTER)
}

/// Reads on until the batch is full, nothing more comes, or the time is over. What was taken when reading fails is
/// read again behind the checkpoint.
async fn gather<R: PartitionReader>(
    reader: &mut R,
    batch: &mut Vec<Record>,
    longest: Duration,
) -> Result<(), ReadError> {
    let until = Instant::now() + longest;
    while batch.len() < READ_BATCH_MAX {
        let quiet = until.min(Instant::now() + GATHER_QUIET);
        let Ok(more) = timeout_at(quiet, reader.next_batch(READ_BATCH_MAX - batch.len())).await else { break };
        let more = more?;
        if more.is_empty() {
            break;
        }
        batch.extend(more);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coordinate::Version;
    use shared::event::{EncodedEvents, Recorded};
    use shared::id::AccountId;

    const NOW: Timestamp = Timestamp::from_micros(60_000_000);

    fn records(count: usize, seconds_ago: i64) -> Vec<Record> {
        let recorded = Recorded {
            stream: AccountId::from_bytes([1; 16]),
            first_version: Version::new(1),
            time: Timestamp::from_micros(NOW.as_micros() - seconds_ago * 1_000_000),
            events: EncodedEvents { count: 1, json: bytes::Bytes::new() },
        };
        (1..=count).map(|offset| Record { offset: Offset::new(offset as u64), recorded: recorded.clone() }).collect()
    }

    /// Yields so many records, ten in each call after a pause, and then waits for ever.
    struct Rest(usize, Duration);

    impl PartitionReader for Rest {
        async fn next_batch(&mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
            tokio::time::sleep(self.1).await;
            let count = self.0.min(limit).min(10);
            self.0 -= count;
            if count == 0 { std::future::pending().await } else { Ok(records(count, 30)) }
        }
    }

    #[test]
    fn only_many_old_records_show_a_backlog() {
        assert_eq!(backlog(&records(BACKLOG_FROM, 30), NOW), Some(Duration::from_secs(30)));
        assert_eq!(backlog(&records(BACKLOG_FROM - 1, 30), NOW), None, "few, perhaps from a clock that is late");
        assert_eq!(backlog(&records(BACKLOG_FROM, 1), NOW), None, "young");
        assert_eq!(backlog(&[], NOW), None);
    }

    #[test]
    fn a_long_beat_follows_where_three_records_come_for_two_accounts() {
        let of = |accounts: &[u8]| -> Vec<Record> {
            let streams = accounts.iter().map(|account| AccountId::from_bytes([*account; 16]));
            let record = |(mut record, stream): (Record, _)| {
                record.recorded.stream = stream;
                record
            };
            records(accounts.len(), 0).into_iter().zip(streams).map(record).collect()
        };
        for (accounts, beat) in [
            (&[][..], BEAT),
            (&[1], BEAT),
            (&[1, 2, 3], BEAT),
            (&[1, 1, 2], LONG_BEAT),
            (&[1, 2, 3, 4, 1], BEAT),
            (&[1, 1, 1, 1], LONG_BEAT),
        ] {
            assert_eq!(beat_after(&of(accounts)), beat, "{accounts:?}");
        }
        assert_eq!(LONG_BEAT.as_millis() % BEAT.as_millis(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_gathered_until_it_is_full_or_the_time_is_over_or_nothing_comes() {
        let (no_time, slow) = (Duration::ZERO, Duration::from_millis(150));
        for (there, pause, gathered, waited) in [
            (10_000, no_time, READ_BATCH_MAX, no_time),
            (10_000, slow, 200 + 13 * 10, GATHER_MAX),
            (40, no_time, 240, GATHER_QUIET),
        ] {
            let (began, mut batch) = (Instant::now(), records(200, 30));
            gather(&mut Rest(there, pause), &mut batch, GATHER_MAX).await.unwrap();
            assert_eq!((batch.len(), began.elapsed()), (gathered, waited));
        }
    }
}
