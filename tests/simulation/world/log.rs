//! The simulated partition log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use shared::clock::Timestamp;
use shared::coordinate::{Offset, Version};
use shared::error::BackendError;
use shared::event::Recorded;
use shared::id::AccountId;
use shared::log::{Extent, Incarnation, PartitionLog, PartitionReader, PublishError, ReadError, Record};
use shared::partition::Partition;
use shared::store::FeedEntry;

use super::fault::Fault;
use super::process::Line;
use super::trace::CHAOS;
use super::{State, World, checkpoint};

/// How long a reader waits before it signals that it is alive.
const READER_BEAT: Duration = Duration::from_secs(5);

/// The pause that a full partition asks for.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// Every partition that was ever used.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    partitions: BTreeMap<Partition, Life>,
    incarnations: u64,
    /// Everything that was ever published, in any incarnation of a partition.
    published: BTreeSet<(AccountId, Version)>,
    /// How many writes the store held when an incarnation began, by incarnation.
    births: BTreeMap<Box<str>, u64>,
    /// How many writes the store holds.
    pub(super) committed: u64,
}

/// One incarnation of a partition.
#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    trimmed: u64,
    /// The record with offset n is at n - trimmed - 1, with the time it was published.
    records: VecDeque<(i64, Recorded)>,
    full: bool,
}

impl Life {
    fn last(&self) -> u64 {
        self.trimmed + self.records.len() as u64
    }

    fn extent(&self) -> Extent {
        Extent {
            incarnation: self.incarnation.clone(),
            trimmed: Offset::new(self.trimmed),
            last: Offset::new(self.last()),
        }
    }

    fn trim(&mut self, through: u64, before: i64) -> u64 {
        let mut gone = 0;
        while self.trimmed < through && self.records.front().is_some_and(|(published, _)| *published < before) {
            self.records.pop_front();
            self.trimmed += 1;
            gone += 1;
        }
        gone
    }
}

impl LogState {
    fn life(&mut self, partition: Partition) -> &mut Life {
        self.partitions.entry(partition).or_insert_with(|| {
            self.incarnations += 1;
            let incarnation = Incarnation(format!("life {}", self.incarnations).into());
            self.births.insert(incarnation.0.clone(), self.committed);
            Life { incarnation, trimmed: 0, records: VecDeque::new(), full: false }
        })
    }

    /// Lets every partition take records again.
    pub(crate) fn make_room(&mut self) {
        for life in self.partitions.values_mut() {
            life.full = false;
        }
    }

    fn renew(&mut self, partition: Partition) -> Extent {
        self.partitions.remove(&partition);
        self.life(partition).extent()
    }

    /// Whether a write was ever published.
    pub(super) fn was_published(&self, recorded: &Recorded) -> bool {
        self.published.contains(&(recorded.stream, recorded.last_version()))
    }

    /// How many writes the store held when an incarnation of a partition began.
    pub(super) fn born_at(&self, incarnation: &Incarnation) -> Option<u64> {
        self.births.get(&incarnation.0).copied()
    }

    /// The records after `after` up to `through`, as far as the partition holds them in this incarnation.
    pub(crate) fn held(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
        through: Offset,
    ) -> impl Iterator<Item = &Recorded> {
        let life = self.partitions.get(&partition).filter(|life| life.incarnation == *incarnation);
        let records = life.into_iter().flat_map(|life| (life.trimmed + 1..).zip(&life.records));
        let behind = records.filter(move |(offset, _)| after.get() < *offset && *offset <= through.get());
        behind.map(|(_, (_, recorded))| recorded)
    }
}

/// The log as one process sees it.
#[derive(Clone)]
pub(crate) struct WorldLog(Line);

impl WorldLog {
    pub(super) const fn new(line: Line) -> Self {
        Self(line)
    }
}

fn published(state: &mut State, process: usize, partition: Partition, entries: &[FeedEntry]) -> Offset {
    let now = state.wall_micros();
    let published = entries.iter().map(|FeedEntry { recorded, .. }| (recorded.stream, recorded.last_version()));
    state.log.published.extend(published);
    let life = state.log.life(partition);
    life.records.extend(entries.iter().map(|entry| (now, entry.recorded.clone())));
    let last = life.last();
    state.note(process, "published", u64::from(partition.get()), last);
    Offset::new(last)
}

impl PartitionLog for WorldLog {
    type Reader = WorldReader;

    async fn extent(&self, partition: Partition) -> Result<Extent, BackendError> {
        self.0.ask("log.extent", |state| state.log.life(partition).extent()).await
    }

    async fn publish(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        let (process, world) = (self.0.process, self.0.world.clone());
        let (incarnation, batch) = (incarnation.clone(), batch.to_vec());
        let half = batch.len() / 2;
        let change = self.0.change("log.publish", move |state, step| {
            let rest = if step == 0 { &batch[..half] } else { &batch[half..] };
            if step == 0 {
                let life = state.log.life(partition);
                if life.incarnation != incarnation || life.last() != after.get() {
                    let extent = life.extent();
                    state.trace.count("publish: conflict");
                    return Some(Err(PublishError::Conflict(extent)));
                }
                if life.full {
                    state.trace.count("publish: full");
                    return Some(Err(PublishError::Full { after: FULL_PAUSE }));
                }
            }
            let last = published(state, process, partition, rest);
            world.0.log_moved.notify_waiters();
            (step == 1).then_some(Ok(last))
        });
        change.await?
    }

    async fn reader(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
    ) -> Result<WorldReader, ReadError> {
        let reader =
            WorldReader { line: self.0.clone(), partition, incarnation: incarnation.clone(), after: after.get() };
        self.0.ask("log.reader", |state| reader.check(state)).await??;
        Ok(reader)
    }

    async fn trim(&self, partition: Partition, through: Offset, before: Timestamp) -> Result<u64, BackendError> {
        let process = self.0.process;
        let change = self.0.change("log.trim", move |state, _| {
            let gone = state.log.life(partition).trim(through.get(), before.as_micros());
            state.note(process, "trimmed", u64::from(partition.get()), gone);
            Some(gone)
        });
        change.await
    }

    async fn renew(&self, partition: Partition, incarnation: &Incarnation) -> Result<Extent, BackendError> {
        let (process, world, incarnation) = (self.0.process, self.0.world.clone(), incarnation.clone());
        let change = self.0.change("log.renew", move |state, _| {
            let extent = state.log.life(partition).extent();
            if extent.incarnation != incarnation {
                return Some(extent);
            }
            state.note(process, "renewed", u64::from(partition.get()), extent.last.get());
            world.0.log_moved.notify_waiters();
            Some(state.log.renew(partition))
        });
        change.await
    }
}

/// A reader of the simulated log.
pub(crate) struct WorldReader {
    line: Line,
    partition: Partition,
    incarnation: Incarnation,
    after: u64,
}

impl WorldReader {
    fn check(&self, state: &mut State) -> Result<(), ReadError> {
        let life = state.log.life(self.partition);
        if life.incarnation == self.incarnation && (life.trimmed..=life.last()).contains(&self.after) {
            return Ok(());
        }
        let extent = life.extent();
        state.trace.count("reader: moved");
        Err(ReadError::Moved(extent))
    }

    fn is_at_end(&self, state: &mut State) -> bool {
        self.check(state).is_ok() && state.log.life(self.partition).last() == self.after
    }

    fn batch(&self, state: &mut State, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.check(state)?;
        let limit = if state.strikes(Fault::Short) { 1 + state.random.index(limit.min(3)) } else { limit };
        let life = state.log.life(self.partition);
        let skip = usize::try_from(self.after - life.trimmed).expect("offsets fit memory");
        let records = (self.after + 1..).zip(life.records.iter().skip(skip)).take(limit);
        Ok(records
            .map(|(offset, (_, recorded))| Record { offset: Offset::new(offset), recorded: recorded.clone() })
            .collect())
    }
}

impl PartitionReader for WorldReader {
    async fn next_batch(&mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
        let shared = self.line.world.0.clone();
        let deadline = tokio::time::Instant::now() + READER_BEAT;
        loop {
            let moved = shared.log_moved.notified();
            if !self.line.world.with(|state| self.is_at_end(state)) {
                break;
            }
            // Changes of other partitions wake the reader too.
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                break;
            }
        }
        let batch = self.line.ask("log.next_batch", |state| self.batch(state, limit)).await??;
        self.after += batch.len() as u64;
        Ok(batch)
    }
}

impl World {
    /// A partition loses its last records; their offsets are assigned again. `seen`: only if it then ends before the
    /// end that the forwarder has noted, so that the forwarder is sure to notice.
    pub(crate) fn lose_tail(&self, partition: Partition, records: u64, seen: bool) {
        self.with(|state| {
            let noted = checkpoint::noted_end(state, partition);
            let life = state.log.life(partition);
            let kept = (life.records.len() as u64).saturating_sub(records);
            let is_seen = noted == Some((life.incarnation.clone(), Offset::new(life.last())));
            if seen && (!is_seen || kept == life.records.len() as u64) {
                return;
            }
            life.records.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            let last = life.last();
            state.note(CHAOS, Fault::TailLost.name(), u64::from(partition.get()), last);
        });
        self.0.log_moved.notify_waiters();
    }

    /// A partition is emptied and begins another incarnation.
    pub(crate) fn empty_log(&self, partition: Partition) {
        self.with(|state| {
            state.log.renew(partition);
            state.note(CHAOS, Fault::LogEmptied.name(), u64::from(partition.get()), 0);
        });
        self.0.log_moved.notify_waiters();
    }

    /// A partition is trimmed completely, even if it still has readers.
    pub(crate) fn trim_log(&self, partition: Partition) {
        self.with(|state| {
            let gone = state.log.life(partition).trim(u64::MAX, i64::MAX);
            state.note(CHAOS, Fault::LogTrimmed.name(), u64::from(partition.get()), gone);
        });
        self.0.log_moved.notify_waiters();
    }

    /// A partition becomes full, or takes records again.
    pub(crate) fn fill_log(&self, partition: Partition, full: bool) {
        self.with(|state| {
            state.log.life(partition).full = full;
            let label = if full { Fault::LogFull.name() } else { "log has room again" };
            state.note(CHAOS, label, u64::from(partition.get()), 0);
        });
    }
}
