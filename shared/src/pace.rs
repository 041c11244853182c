//! Pauses between small batches, so that records that arrive quickly are batched.
//!
//! Each batch costs a round trip or a transaction, however small it is. A reader that takes whatever is there at once
//! pays that for every few records, just when the machine is busiest. With a [`Pace`] it waits briefly after a small
//! batch, the longer the more records the batch held. So a lone record never waits, and the one after it no longer than
//! the pause for one record; a stream of records gathers into batches; and a backlog, whose batches are large, is not
//! delayed.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::clock::Timestamp;

/// The longest pause after a batch of at most [`FEW`] records, as a multiple of the time that writing took: so at least
/// a fifth of the time is spent writing.
const PAUSE_FOR_WRITING: u32 = 4;

/// A batch of at most this many records shows a machine with time to write each record at once, if writing is cheap.
const FEW: usize = 8;

/// Decides when the next batch is taken.
#[derive(Debug)]
pub struct Pace {
    /// The pause for each record of the last batch.
    for_each: Duration,
    /// The longest pause, and so the most by which a record is delayed.
    longest: Duration,
    /// A batch of at least this many records is large enough; no pause follows it.
    enough: usize,
    next: Option<Instant>,
}

impl Pace {
    /// A pace whose first batch is taken at once. After a batch of fewer than `enough` records it waits `for_each` per
    /// record, but never longer than `longest`.
    #[must_use]
    pub const fn new(for_each: Duration, longest: Duration, enough: usize) -> Self {
        Self { for_each, longest, enough, next: None }
    }

    /// Sets the longest pause from now on.
    pub const fn wait_at_most(&mut self, longest: Duration) {
        self.longest = longest;
    }

    /// Waits until the next batch is due. Dropping the call has no effect.
    pub async fn wait(&self) {
        if let Some(next) = self.next {
            sleep_until(next).await;
        }
    }

    /// Notes that a batch of `records` was taken just now, and that writing the last one took `writing`. After at most
    /// [`FEW`] records a pause is at most [`PAUSE_FOR_WRITING`] times as long as that: where writing is cheap, waiting
    /// gains little. After more records the cost of each batch to others counts as well: to the source of the records,
    /// and to their later readers.
    pub fn taken(&mut self, records: usize, writing: Duration) {
        let most = if records <= FEW { writing.saturating_mul(PAUSE_FOR_WRITING) } else { self.longest };
        self.next = self.pause(records).map(|pause| Instant::now() + pause.min(most));
    }

    /// Notes that a batch of `records` was taken just now. A pause of the full length lasts until the next beat
    /// instead: a multiple of the longest pause since 1970. So all readers with the same clock take their batches, and
    /// have something to write, at the same moments, and one write may carry what all of them have.
    pub fn taken_on_beat(&mut self, records: usize, now: Timestamp) {
        let paused = |pause| if pause < self.longest { pause } else { until_beat(self.longest, now) };
        self.next = self.pause(records).map(|pause| Instant::now() + paused(pause));
    }

    /// The pause after a batch; none after one that is empty or large.
    fn pause(&self, records: usize) -> Option<Duration> {
        let count = u32::try_from(records).unwrap_or(u32::MAX);
        (1..self.enough).contains(&records).then(|| self.for_each.saturating_mul(count).min(self.longest))
    }
}

/// The time until the next beat: a multiple of `every` since 1970. Never zero: on a beat it is the time until the one
/// after.
#[must_use]
pub fn until_beat(every: Duration, now: Timestamp) -> Duration {
    let since = Timestamp::EPOCH.until(now).as_nanos() % every.as_nanos().max(1);
    every.saturating_sub(Duration::from_nanos(u64::try_from(since).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So long that it shortens no pause.
    const LONG: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Pace::new(Duration::from_millis(1), Duration::from_millis(20), 64)
    }

    async fn waited(pace: &Pace) -> Duration {
        let began = Instant::now();
        pace.wait().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn more_records_wait_longer_up_to_a_bound_and_a_backlog_not_at_all() {
        let mut pace = pace();
        assert_eq!(waited(&pace).await, Duration::ZERO, "the first batch");
        for (records, millis) in [(0, 0), (1, 1), (7, 7), (30, 20), (63, 20), (64, 0), (usize::MAX, 0)] {
            pace.taken(records, LONG);
            assert_eq!(waited(&pace).await, Duration::from_millis(millis), "after {records} records");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_few_records_that_were_written_quickly_a_pause_is_short() {
        let mut pace = pace();
        for (records, writing_millis, millis) in [(8, 1, 4), (8, 3, 8), (3, 1, 3), (8, 0, 0), (9, 0, 9), (30, 1, 20)] {
            pace.taken(records, Duration::from_millis(writing_millis));
            let waited = waited(&pace).await;
            assert_eq!(waited, Duration::from_millis(millis), "{records} records, written in {writing_millis} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_much_waits_for_the_beat_and_who_has_little_only_for_its_allowance() {
        let mut pace = pace();
        for (records, now_micros, millis) in
            [(30, 40_000, 20), (30, 41_000, 19), (64, 41_000, 0), (7, 41_000, 7), (30, 59_000, 1), (30, -1, 20)]
        {
            pace.taken_on_beat(records, Timestamp::from_micros(now_micros));
            assert_eq!(waited(&pace).await, Duration::from_millis(millis), "{records} records at {now_micros}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_wait_longer_waits_for_the_longer_beat() {
        let mut pace = pace();
        for (longest_millis, records, millis) in [(40, 50, 31), (40, 35, 35), (20, 50, 11)] {
            pace.wait_at_most(Duration::from_millis(longest_millis));
            pace.taken_on_beat(records, Timestamp::from_micros(49_000));
            assert_eq!(waited(&pace).await, Duration::from_millis(millis), "{records} records, {longest_millis} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_later_than_the_pace_waits_no_more() {
        let mut pace = pace();
        pace.taken(10, LONG);
        tokio::time::advance(Duration::from_millis(11)).await;
        assert_eq!(waited(&pace).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_records_gathers_into_batches() {
        let mut pace = pace();
        let began = Instant::now();
        // A thousand records a second, taken for a second.
        let (mut taken, mut batches) = (0, 0);
        while began.elapsed() < Duration::from_secs(1) {
            pace.wait().await;
            tokio::time::advance(Duration::from_millis(1)).await;
            let arrived = usize::try_from(began.elapsed().as_millis()).unwrap();
            pace.taken(arrived - taken, LONG);
            (taken, batches) = (arrived, batches + 1);
        }
        assert!(batches < 60, "{batches} batches for {taken} records");
    }
}
