//! How the records of a partition are grouped into batches, each of which is one write to the index.
//!
//! Small batches follow each other at a [`Pace`]. A worker that is behind gathers larger ones: an account with many
//! records in a batch is written once, so the further behind a worker is, the faster it catches up. A generation on
//! standby for a rollback is written to seldom, since no query waits for it, and between the beats of the others.

use std::collections::HashSet;
use std::time::Duration;

use shared::clock::{Clock, Timestamp};
use shared::index::Generation;
use shared::log::{PartitionReader, ReadError, Record};
use shared::pace::Pace;
use shared::partition::Partition;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::roster::Roster;

/// The most records read at once: two such batches are in memory, one being read, one being projected.
const READ_BATCH_MAX: usize = 8_192;

/// A batch of this many records is large enough to be written at once.
const BATCH_ENOUGH: usize = 1_024;

/// The longest an event is delayed so that others share its write. Only a worker that gets hundreds of events a second
/// waits that long.
const BEAT: Duration = Duration::from_millis(200);

/// The same when several events of an account come together ([`LONG_BEAT_FROM`]): then one write covers several events
/// of most accounts, and a longer wait covers more. A multiple of [`BEAT`], so that all workers write at common
/// moments.
const LONG_BEAT: Duration = Duration::from_millis(400);

/// A batch with at least this ratio of records to accounts is followed by a long beat.
const LONG_BEAT_FROM: (usize, usize) = (3, 2);

/// The pace of small batches.
const PACE: Pace = Pace::new(Duration::from_millis(2), BEAT, BATCH_ENOUGH);

/// How often a generation on standby is written to: seldom enough to cost the active one little, and often enough that
/// little is missing when a rollback begins.
const STANDBY_BEAT: Duration = Duration::from_secs(2);

/// The time between the writes of successive partitions to a generation on standby, so that none of these writes is
/// large.
const STANDBY_STEP: Duration = BEAT;

/// How long after a beat of the other generations each of these writes follows.
const STANDBY_BEHIND_BEAT: Duration = Duration::from_millis(100);

/// The pace of batches on standby: each, however small, is followed by a pause.
const STANDBY_PACE: Pace = Pace::new(STANDBY_BEAT, STANDBY_BEAT, READ_BATCH_MAX);

/// The fewest old records in a batch that show a backlog: a log may deliver few at a time, however many there are.
const BACKLOG_FROM: usize = 8;

/// A worker whose newest record is older than this is behind.
const BEHIND_AFTER: Duration = Duration::from_secs(1);

/// A worker that is behind gathers a batch for the delay of its events divided by this.
const GATHER_PART: u32 = 4;

/// The longest it gathers.
const GATHER_MAX: Duration = Duration::from_secs(2);

/// How long it waits for more records: if none come by then, the backlog is over.
const GATHER_QUIET: Duration = Duration::from_millis(200);

/// The batches of one worker.
pub(super) struct Batches {
    pace: Pace,
    roster: Roster,
    generation: Generation,
    partition: Partition,
    on_standby: bool,
}

impl Batches {
    /// Batches, the first of which is taken at once.
    pub(super) const fn new(roster: Roster, generation: Generation, partition: Partition) -> Self {
        Self { pace: PACE, roster, generation, partition, on_standby: false }
    }

    /// The next batch, when it is due; `None` once shutdown is requested.
    pub(super) async fn next<R: PartitionReader>(
        &mut self,
        reader: &mut R,
        clock: &Clock,
        shutdown: &CancellationToken,
    ) -> Option<Result<Vec<Record>, ReadError>> {
        let paced = async {
            self.pause().await;
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
        self.taken(batch.as_deref().unwrap_or_default(), clock.now());
        Some(batch)
    }

    /// Waits until the next batch is due, or, on standby, until a rollback begins.
    async fn pause(&self) {
        tokio::select! {
            biased;
            () = self.pace.wait() => {}
            () = self.roster.called_up(self.generation), if self.on_standby => {}
        }
    }

    /// Decides how long to wait after this batch.
    fn taken(&mut self, batch: &[Record], now: Timestamp) {
        self.on_standby = self.roster.is_on_standby(self.generation);
        if self.on_standby {
            let step = STANDBY_STEP * u32::from(self.partition.get()) + STANDBY_BEHIND_BEAT;
            self.pace = STANDBY_PACE;
            self.pace.taken_on_beat(batch.len(), now.minus(step));
        } else {
            self.pace = PACE;
            self.pace.wait_at_most(beat_after(batch));
            self.pace.taken_on_beat(batch.len(), now);
        }
    }
}

/// The longest wait after a batch.
fn beat_after(batch: &[Record]) -> Duration {
    let accounts = batch.iter().map(|record| record.recorded.stream).collect::<HashSet<_>>().len();
    let (records, for_accounts) = LONG_BEAT_FROM;
    if accounts > 0 && batch.len() * for_accounts >= accounts * records { LONG_BEAT } else { BEAT }
}

/// How late the records are if they show a backlog; otherwise `None`. Both their number and their age count: where the
/// clocks of two machines differ, a lone record does not wait for others.
fn backlog(batch: &[Record], now: Timestamp) -> Option<Duration> {
    let newest = batch.last().filter(|_| batch.len() >= BACKLOG_FROM)?;
    Some(newest.recorded.time.until(now)).filter(|late| *late > BEHIND_AFTER)
}

/// Reads on until the batch is full, nothing more comes, or the time is up. If reading fails, the records taken so far
/// are read again after the checkpoint.
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
    use shared::coordinate::{Offset, Version};
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

    /// Yields this many records, at most ten per call, each call after a pause, and then waits for ever.
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
