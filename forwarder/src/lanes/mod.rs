//! Lanes: what was read from the feed and is not published yet, one lane for each partition that has not got all of it.
//!
//! In a lane one publish follows the other, so a partition gets its writes in the order of the feed (law F2). The lanes
//! of a batch are waited for, but only for [`LATE_AFTER`]: then the others go on, and what is read for a late partition
//! waits in its lane. A partition may be late because it is full, fails, or is slow.
//!
//! The position ends before the oldest write in any lane (law F1), so it stands still while a partition takes nothing.
//! Whoever starts again from there publishes again what the other partitions have got meanwhile. Therefore a lane whose
//! publisher gives up begins again instead of ending the leadership (law F4), with one exception: if no partition has
//! answered for [`SILENT_AFTER`] and all that are asked fail, this process may be the only one that cannot reach the
//! log, and another one gets its chance.
//!
//! Partitions with nothing to publish are looked at meanwhile, so that they can answer, and so that their losses are
//! found (law F3).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::mem;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use metrics::{counter, gauge};
use shared::clock::Timestamp;
use shared::coordinate::Position;
use shared::error::BackendError;
use shared::log::PartitionLog;
use shared::partition::{Partition, PartitionMap};
use shared::store::{FeedBatch, FeedEntry};
use shared::telemetry::Seldom;
use shared::telemetry::metric::{FORWARDER_POSITION_SECONDS, PUBLISH_FAILURES};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::checkpoint::{End, Progress};
use crate::forward::FEED_BATCH_MAX;
use crate::full::FullPartitions;
use crate::publish::{Ended, Publisher};

#[cfg(test)]
mod tests;

/// How long a batch waits for a partition: far longer than a publish takes, and hardly noticed in the view. A partition
/// that is slow but never fails slows the others down by as much, once for each of its publishes.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// From this many writes in all lanes on, nothing more is read: some megabytes of the usual events, of which none is
/// larger than 64 KiB. Together with the batch that brought them there, and the one that was being read then, that is
/// all a forwarder holds.
const HELD_MAX: usize = 4 * FEED_BATCH_MAX;

/// How long a lane rests after its publisher has given up.
const REST: Duration = Duration::from_secs(1);

/// How long no partition may have answered, while all that are asked fail, before the leadership ends: with the next
/// publisher that gives up, which takes it some fifteen seconds at most. Looks at quiet partitions are made more often,
/// so one that works is sure to have answered.
const SILENT_AFTER: Duration = Duration::from_secs(30);

/// A failing partition fails again and again.
static FAILED: Seldom = Seldom::new();

/// What can only be wrong in this file.
const EVERY_PUBLISHER_HAS_A_LANE: &str = "a lane is removed when its publisher has ended";

/// The lanes of a leadership.
pub(crate) struct Lanes<'a, L> {
    log: &'a L,
    partitions: PartitionMap,
    full: &'a FullPartitions,
    /// Where each partition ends, as far as is known.
    ends: BTreeMap<Partition, End>,
    /// What was taken.
    taken: Reached,
    /// How many batches that was.
    batches: u64,
    /// How many writes all lanes hold.
    held: usize,
    by_partition: BTreeMap<Partition, Lane>,
    /// The partitions whose last publisher has given up.
    failing: BTreeSet<Partition>,
    /// The publisher of each lane.
    publishers: FuturesUnordered<BoxFuture<'a, Ended>>,
    /// When a partition last took writes, or told its end.
    answered: Instant,
}

/// What one partition has not got yet. A lane without writes only looks where its partition ends.
#[derive(Default)]
struct Lane {
    /// How many writes its publisher has.
    publishing: usize,
    /// Where the first of them came from.
    from: Option<Source>,
    /// What is published after them.
    waiting: VecDeque<Load>,
    /// Whether its batch still waits for it.
    is_awaited: bool,
}

/// What a batch brought for one partition.
struct Load {
    source: Source,
    entries: Vec<FeedEntry>,
}

/// The batch that brought a write.
#[derive(Clone)]
struct Source {
    batch: u64,
    /// What precedes it in the feed.
    before: Reached,
}

/// Everything in the feed up to some write.
#[derive(Clone)]
struct Reached {
    /// Where the feed resumes after it.
    position: Position,
    /// When the last of it was committed, if that is known.
    newest: Option<Timestamp>,
}

impl Lane {
    /// Where its oldest write came from.
    fn oldest(&self) -> Option<&Source> {
        self.from.as_ref().or_else(|| self.waiting.front().map(|load| &load.source))
    }

    /// Takes out what is published next: no more writes than a batch has, so that a long lane gets on step by step.
    fn next_publish(&mut self) -> Vec<FeedEntry> {
        let mut writes = 0;
        let fits = |load: &&Load| {
            writes += load.entries.len();
            writes <= FEED_BATCH_MAX
        };
        let fitting = self.waiting.iter().take_while(fits).count();
        let first = self.waiting.pop_front();
        self.from = first.as_ref().map(|load| load.source.clone());
        let mut entries = first.map(|load| load.entries).unwrap_or_default();
        entries.extend(self.waiting.drain(..fitting.saturating_sub(1)).flat_map(|load| load.entries));
        self.publishing = entries.len();
        entries
    }
}

impl<'a, L: PartitionLog> Lanes<'a, L> {
    pub(crate) fn new(log: &'a L, partitions: PartitionMap, full: &'a FullPartitions, progress: Progress) -> Self {
        Self {
            log,
            partitions,
            full,
            ends: progress.ends,
            taken: Reached { position: progress.position, newest: progress.newest },
            batches: 0,
            held: 0,
            by_partition: BTreeMap::new(),
            failing: BTreeSet::new(),
            publishers: FuturesUnordered::new(),
            answered: Instant::now(),
        }
    }

    /// How far everything is published.
    pub(crate) fn progress(&self) -> Progress {
        let Reached { position, newest } = self.done().clone();
        Progress { position, ends: self.ends.clone(), newest }
    }

    /// What is published with all that precedes it.
    fn done(&self) -> &Reached {
        let oldest = self.by_partition.values().filter_map(Lane::oldest).min_by_key(|source| source.batch);
        oldest.map_or(&self.taken, |source| &source.before)
    }

    /// What to take instead of the next batch while the lanes hold too much to read it.
    pub(crate) fn without_room(&self) -> Option<FeedBatch> {
        let is_full = self.held >= HELD_MAX;
        is_full.then(|| FeedBatch { entries: Vec::new(), reached: self.taken.position.clone() })
    }

    /// How many writes the lanes hold.
    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// Takes a batch.
    pub(crate) fn take(&mut self, batch: FeedBatch) {
        let FeedBatch { entries, reached: position } = batch;
        let newest = entries.last().map(|entry| entry.recorded.time).or(self.taken.newest);
        self.batches += 1;
        let before = mem::replace(&mut self.taken, Reached { position, newest });
        let source = Source { batch: self.batches, before };
        for (partition, entries) in route(self.partitions, entries) {
            self.held += entries.len();
            let load = Load { source: source.clone(), entries };
            if let Some(lane) = self.by_partition.get_mut(&partition) {
                lane.waiting.push_back(load);
            } else {
                let waiting = VecDeque::from([load]);
                self.begin(partition, Lane { waiting, is_awaited: true, ..Lane::default() });
            }
        }
    }

    /// Begins to look where every partition ends to which nothing is being published; one that lost records is renewed.
    pub(crate) fn look(&mut self) {
        for partition in self.partitions.all() {
            if !self.by_partition.contains_key(&partition) {
                self.begin(partition, Lane::default());
            }
        }
    }

    /// Publishes what was taken; late partitions are left behind. Goes on with those until the next batch is read.
    /// Returns how long the others took.
    ///
    /// # Errors
    /// No partition answers. The progress is right nevertheless.
    pub(crate) async fn publish(&mut self, has_read: impl Future<Output = ()>) -> Result<Duration, BackendError> {
        let began = Instant::now();
        self.wait_for_batch().await?;
        let took = began.elapsed();
        if let Some(newest) = self.done().newest {
            report_position(newest);
        }
        tokio::select! {
            // What is late must have its turn even if the next batch is always there.
            biased;
            failure = self.go_on() => Err(failure),
            () = has_read => Ok(took),
        }
    }

    async fn wait_for_batch(&mut self) -> Result<(), BackendError> {
        let mut late = pin!(sleep(LATE_AFTER));
        while self.by_partition.values().any(|lane| lane.is_awaited) {
            tokio::select! {
                biased;
                stepped = self.step() => stepped?,
                () = &mut late => self.leave_behind(),
            }
        }
        Ok(())
    }

    /// Whatever is not published by now is late.
    fn leave_behind(&mut self) {
        for lane in self.by_partition.values_mut() {
            lane.is_awaited = false;
        }
    }

    async fn go_on(&mut self) -> BackendError {
        loop {
            if let Err(failure) = self.step().await {
                return failure;
            }
        }
    }

    /// Waits for the end of a publisher, for ever if there is none. A dropped call loses nothing.
    async fn step(&mut self) -> Result<(), BackendError> {
        let Some(Ended { partition, end, given_up }) = self.publishers.next().await else { return pending().await };
        self.ends.insert(partition, end);
        match given_up {
            None => self.published(partition),
            Some((entries, failure)) => self.given_up(partition, entries, failure)?,
        }
        Ok(())
    }

    /// A publisher is done; what waits in its lane is next.
    fn published(&mut self, partition: Partition) {
        self.answered = Instant::now();
        self.failing.remove(&partition);
        let Lane { publishing, waiting, .. } = self.by_partition.remove(&partition).expect(EVERY_PUBLISHER_HAS_A_LANE);
        self.held -= publishing;
        if !waiting.is_empty() {
            self.begin(partition, Lane { waiting, is_awaited: true, ..Lane::default() });
        }
    }

    /// A publisher has given up. Its lane begins again, unless no partition answers; a look is left to the next one.
    fn given_up(
        &mut self,
        partition: Partition,
        entries: Vec<FeedEntry>,
        failure: BackendError,
    ) -> Result<(), BackendError> {
        self.failing.insert(partition);
        if !entries.is_empty() {
            self.report(partition, &failure);
        }
        let do_all_fail = self.by_partition.keys().all(|asked| self.failing.contains(asked));
        if do_all_fail && self.answered.elapsed() >= SILENT_AFTER {
            // The lane stays, and with it the position.
            return Err(failure);
        }
        let Lane { from, mut waiting, .. } = self.by_partition.remove(&partition).expect(EVERY_PUBLISHER_HAS_A_LANE);
        if let Some(source) = from {
            waiting.push_front(Load { source, entries });
        }
        if !waiting.is_empty() {
            self.begin(partition, Lane { waiting, ..Lane::default() });
        }
        Ok(())
    }

    fn report(&self, partition: Partition, failure: &BackendError) {
        counter!(PUBLISH_FAILURES.name, "partition" => partition.to_string()).increment(1);
        if let Some(left_out) = FAILED.due() {
            warn!(
                %partition,
                %failure,
                left_out,
                held = self.held,
                held_at_most = HELD_MAX,
                "the partition takes nothing, so the view of its accounts stands still; nothing is lost. The others go \
                 on as long as no more writes are held than may be",
            );
        }
    }

    /// Begins a lane, or the next publish of one.
    fn begin(&mut self, partition: Partition, mut lane: Lane) {
        let end = self.ends.get(&partition).cloned().expect("resuming noted an end for every partition");
        let entries = lane.next_publish();
        let must_rest = self.failing.contains(&partition) && !entries.is_empty();
        self.by_partition.insert(partition, lane);
        let publisher = Publisher::new(self.log, partition, end, self.full);
        let publishing = async move {
            if must_rest {
                sleep(REST).await;
            }
            publisher.publish(entries).await
        };
        self.publishers.push(publishing.boxed());
    }
}

fn report_position(newest: Timestamp) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; microseconds of this era fit its 53 bits")]
    gauge!(FORWARDER_POSITION_SECONDS.name).set(newest.as_micros() as f64 / 1e6);
}

/// Splits a batch by partition; each partition keeps the order of the feed.
fn route(partitions: PartitionMap, entries: Vec<FeedEntry>) -> BTreeMap<Partition, Vec<FeedEntry>> {
    let mut routed: BTreeMap<Partition, Vec<FeedEntry>> = BTreeMap::new();
    for entry in entries {
        routed.entry(partitions.partition_of(&entry.recorded.stream)).or_default().push(entry);
    }
    routed
}
