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

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::mem;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use metrics::{counter, gauge};
use shared::clock::Timestamp;
use shared::error::BackendError;
use shared::log::PartitionLog;
use shared::partition::{Partition, PartitionMap};
use shared::store::{FeedBatch, FeedEntry};
use shared::telemetry::Seldom;
use shared::telemetry::metric::{FORWARDER_POSITION_SECONDS, PUBLISH_FAILURES};
use tokio::time::{Instant, sleep};
use tracing::warn;

use self::lane::{Lane, Load, Reached, Source};
use crate::checkpoint::{Checkpoint, End};
use crate::full::FullPartitions;
use crate::publish::{Ended, Publisher, Task};

mod lane;
#[cfg(test)]
mod tests;

/// The most writes read from the feed at once, and the most that are published at once: two such batches are in memory,
/// one being read, one being published, beside what waits for late partitions.
pub(crate) const FEED_BATCH_MAX: usize = 4_096;

/// How long a batch waits for a partition: far longer than a publish takes, and hardly noticed in the view. A partition
/// that is slow but never fails slows the others down by as much, once for each of its publishes.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// From this many writes in all lanes on, nothing more is read: some megabytes of the usual events, of which none is
/// larger than 64 KiB. Together with the batch that brought them there, and the one that was being read then, that is
/// all a forwarder holds.
const HELD_MAX: usize = 4 * FEED_BATCH_MAX;

/// How long a lane rests after its publisher has given up.
const REST: Duration = Duration::from_secs(1);

/// How often the partitions to which nothing is being published are looked at, however busy the others are; a publish
/// detects a loss by itself.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long no partition may have answered, while all that are asked fail, before the leadership ends: with the next
/// publisher that gives up, which takes it some fifteen seconds at most. Looks at quiet partitions are made more often,
/// so one that works is sure to have answered.
const SILENT_AFTER: Duration = Duration::from_secs(30);

/// A failing partition fails again and again.
static FAILED: Seldom = Seldom::new();

/// What can only be wrong in this file.
const WRITES_HAVE_A_LANE: &str = "a lane is removed when all of it is published";

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
    /// The partitions that are being looked at. A lane that comes into being meanwhile gets its publisher afterwards.
    being_looked_at: BTreeSet<Partition>,
    /// The partitions whose last publisher has given up.
    failing: BTreeSet<Partition>,
    /// One for each partition that has a lane or is being looked at.
    publishers: FuturesUnordered<BoxFuture<'a, Ended>>,
    /// When a partition last took writes, or told its end.
    answered: Instant,
}

impl<'a, L: PartitionLog> Lanes<'a, L> {
    pub(crate) fn new(log: &'a L, partitions: PartitionMap, full: &'a FullPartitions, checkpoint: Checkpoint) -> Self {
        Self {
            log,
            partitions,
            full,
            ends: checkpoint.ends,
            taken: Reached { position: checkpoint.position, newest: checkpoint.newest },
            batches: 0,
            held: 0,
            by_partition: BTreeMap::new(),
            being_looked_at: BTreeSet::new(),
            failing: BTreeSet::new(),
            publishers: FuturesUnordered::new(),
            answered: Instant::now(),
        }
    }

    /// How far everything is published.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let Reached { position, newest } = self.done().clone();
        Checkpoint { position, ends: self.ends.clone(), newest }
    }

    /// Where each partition ends, as far as is known.
    pub(crate) const fn ends(&self) -> &BTreeMap<Partition, End> {
        &self.ends
    }

    /// What is published with all that precedes it.
    fn done(&self) -> &Reached {
        let oldest = self.by_partition.values().filter_map(Lane::oldest).min_by_key(|source| source.batch);
        oldest.map_or(&self.taken, |source| &source.before)
    }

    /// Whether the next batch may be read.
    pub(crate) const fn has_room(&self) -> bool {
        self.held < HELD_MAX
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
            let is_free = self.is_free(partition);
            self.by_partition.entry(partition).or_default().push(Load { source: source.clone(), entries });
            if is_free {
                self.publish_next(partition, true);
            }
        }
    }

    /// Whether a partition has no publisher.
    fn is_free(&self, partition: Partition) -> bool {
        !self.by_partition.contains_key(&partition) && !self.being_looked_at.contains(&partition)
    }

    /// Begins to look where every partition ends to which nothing is being published; one that lost records is renewed.
    pub(crate) fn look(&mut self) {
        for partition in self.partitions.all() {
            if self.is_free(partition) {
                self.being_looked_at.insert(partition);
                self.begin(partition, Task::Look);
            }
        }
    }

    /// Publishes what was taken; late partitions are left behind. Goes on with those until the next batch is read.
    /// Returns how long the others took.
    ///
    /// # Errors
    /// No partition answers. The checkpoint is right nevertheless.
    pub(crate) async fn publish_until(&mut self, has_read: impl Future<Output = ()>) -> Result<Duration, BackendError> {
        let began = Instant::now();
        self.publish_batch().await?;
        let took = began.elapsed();
        if let Some(newest) = self.done().newest {
            report_position(newest);
        }
        tokio::select! {
            // What is late must have its turn even if the next batch is always there.
            biased;
            failure = self.publish_late() => Err(failure),
            () = has_read => Ok(took),
        }
    }

    /// Goes on until all of the batch is published or late.
    async fn publish_batch(&mut self) -> Result<(), BackendError> {
        let mut late = pin!(sleep(LATE_AFTER));
        while self.by_partition.values().any(|lane| lane.is_awaited) {
            tokio::select! {
                biased;
                ended = self.next_end() => ended?,
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

    /// Goes on until no partition answers.
    async fn publish_late(&mut self) -> BackendError {
        loop {
            if let Err(failure) = self.next_end().await {
                return failure;
            }
        }
    }

    /// Waits for the next end of a publisher, for ever if there is none. A dropped call loses nothing.
    async fn next_end(&mut self) -> Result<(), BackendError> {
        let Some(Ended { partition, end, given_up }) = self.publishers.next().await else { return pending().await };
        self.ends.insert(partition, end);
        self.being_looked_at.remove(&partition);
        match given_up {
            None => self.succeeded(partition),
            Some((task, failure)) => self.given_up(partition, task, failure)?,
        }
        Ok(())
    }

    /// A publisher is done; what waits in the partition's lane is next.
    fn succeeded(&mut self, partition: Partition) {
        self.answered = Instant::now();
        self.failing.remove(&partition);
        if let Some(lane) = self.by_partition.get_mut(&partition) {
            self.held -= lane.published();
            if lane.is_empty() {
                self.by_partition.remove(&partition);
            }
        }
        self.publish_next(partition, true);
    }

    /// A publisher has given up. Its writes are published again, unless no partition answers; a look is left to the
    /// next one.
    fn given_up(&mut self, partition: Partition, task: Task, failure: BackendError) -> Result<(), BackendError> {
        self.failing.insert(partition);
        if matches!(task, Task::Publish(_)) {
            self.report(partition, &failure);
        }
        let mut asked = self.by_partition.keys().chain(&self.being_looked_at);
        let do_all_fail = asked.all(|one| self.failing.contains(one));
        if do_all_fail && self.answered.elapsed() >= SILENT_AFTER {
            // The lane stays, and with it the position.
            return Err(failure);
        }
        if let Task::Publish(entries) = task {
            self.by_partition.get_mut(&partition).expect(WRITES_HAVE_A_LANE).put_back(entries);
        }
        self.publish_next(partition, false);
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

    /// Begins the next publish of a partition's lane, if it has one. The partition has no publisher.
    fn publish_next(&mut self, partition: Partition, is_awaited: bool) {
        let Some(lane) = self.by_partition.get_mut(&partition) else { return };
        lane.is_awaited = is_awaited;
        if let Some(entries) = lane.next_publish() {
            self.begin(partition, Task::Publish(entries));
        }
    }

    /// Begins what the publisher of a partition is to do.
    fn begin(&mut self, partition: Partition, task: Task) {
        let end = self.ends.get(&partition).cloned().expect("resuming noted an end for every partition");
        let must_rest = self.failing.contains(&partition) && matches!(task, Task::Publish(_));
        let publisher = Publisher::new(self.log, partition, end, self.full);
        let publishing = async move {
            if must_rest {
                sleep(REST).await;
            }
            publisher.run(task).await
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
