//! The simulated event store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::coordinate::{Position, Version};
use shared::error::BackendError;
use shared::event::{Recorded, StreamAfter};
use shared::id::{AccountId, CommitId};
use shared::partition::{Slot, SlotRange};
use shared::store::{
    AppendError, Appended, ChangeFeed, Commit, EventStore, FeedBatch, FeedEntry, FeedError, IdempotencyKey, ScanPage,
    Snapshot, Snapshots, StoredCommit,
};
use tokio::time::timeout;

use super::fault::Fault;
use super::process::Line;
use super::trace::CHAOS;
use super::{State, World, short};

/// How long a feed waits before it signals that it is alive.
const FEED_BEAT: Duration = Duration::from_secs(5);

/// How far before its position a feed begins at most when it repeats writes.
const FEED_REPEAT_MAX: u64 = 8;

/// The place of a stream: streams are in the order of their slots.
type Place = (u16, AccountId);

/// Everything the store holds.
#[derive(Debug, Default)]
pub(crate) struct StoreState {
    streams: BTreeMap<Place, Vec<Recorded>>,
    commits: BTreeMap<CommitId, StoredCommit>,
    keys: BTreeMap<IdempotencyKey, CommitId>,
    /// The write with position n is at n - 1.
    feed: Vec<Recorded>,
    /// No feed begins before this position.
    forgotten: u64,
    snapshots: BTreeMap<AccountId, Snapshot>,
    /// How many commits did not come from a process of the bank.
    foreign: usize,
}

fn place(stream: AccountId) -> Place {
    (Slot::of(&stream).get(), stream)
}

impl StoreState {
    /// The first writes, in the order of the feed.
    pub(super) fn first(&self, count: u64) -> &[Recorded] {
        &self.feed[..usize::try_from(count).map_or(self.feed.len(), |count| count.min(self.feed.len()))]
    }

    fn of_stream(&self, stream: AccountId) -> &[Recorded] {
        self.streams.get(&place(stream)).map_or(&[], Vec::as_slice)
    }

    /// How many events a stream has.
    pub(crate) fn version(&self, stream: AccountId) -> Version {
        self.of_stream(stream).last().map_or(Version::EMPTY, Recorded::last_version)
    }

    /// How many commits did not come from a process of the bank.
    pub(crate) const fn foreign(&self) -> usize {
        self.foreign
    }

    /// All streams, in the order of their slots.
    pub(crate) fn streams(&self) -> impl Iterator<Item = AccountId> {
        self.streams.keys().map(|(_, stream)| *stream)
    }

    /// What the store remembers of a commit.
    pub(crate) fn commit(&self, id: CommitId) -> Option<&StoredCommit> {
        self.commits.get(&id)
    }

    /// The commit that took a key.
    pub(crate) fn key(&self, key: &IdempotencyKey) -> Option<&StoredCommit> {
        self.keys.get(key).and_then(|id| self.commits.get(id))
    }

    fn taken(&self, commit: &Commit) -> Option<&StoredCommit> {
        self.commit(commit.id).or_else(|| self.key(&commit.key.as_ref()?.key))
    }

    fn in_slots(&self, slots: SlotRange, from: Place) -> impl Iterator<Item = (&Place, &Vec<Recorded>)> {
        let start = from.max((slots.start, AccountId::from_bytes([0; 16])));
        self.streams.range(start..).take_while(move |((slot, _), _)| *slot < slots.end)
    }

    fn scan(&self, slots: SlotRange, after: Option<StreamAfter>, limit: usize) -> ScanPage {
        let from = after.map_or((0, AccountId::from_bytes([0; 16])), |after| place(after.stream));
        let mut events = 0;
        let mut records: Vec<Recorded> = Vec::new();
        for ((_, stream), recorded) in self.in_slots(slots, from) {
            let have = after.filter(|after| after.stream == *stream).map_or(Version::EMPTY, |after| after.after);
            for one in recorded.iter().filter(|one| one.last_version() > have) {
                if events >= limit {
                    let last = records.last().expect("a page that is full has a record");
                    let next = StreamAfter { stream: last.stream, after: last.last_version() };
                    return ScanPage { records, next: Some(next) };
                }
                events += one.events.count as usize;
                records.push(one.clone());
            }
        }
        ScanPage { records, next: None }
    }
}

/// Takes one commit of a batch. `spoiled` are the streams of earlier commits that wrote nothing: a later one was
/// decided on something that did not happen, even if its version happens to fit (law S5).
fn take_in_batch(
    state: &mut State,
    process: usize,
    commit: &Commit,
    spoiled: &mut BTreeSet<AccountId>,
) -> Result<Appended, AppendError> {
    let fate = take(state, process, commit, spoiled);
    let holds = match &fate {
        Ok(Appended::New) => true,
        Ok(Appended::Before(before)) => before.id == commit.id,
        Err(_) => false,
    };
    if !holds {
        spoiled.extend(commit.writes.iter().map(|write| write.stream));
    }
    fate
}

fn take(
    state: &mut State,
    process: usize,
    commit: &Commit,
    spoiled: &BTreeSet<AccountId>,
) -> Result<Appended, AppendError> {
    if let Some(before) = state.store.taken(commit) {
        let before = Box::new(before.clone());
        state.trace.count("append: taken before");
        return Ok(Appended::Before(before));
    }
    let store = &state.store;
    let mut writes = commit.writes.iter();
    let misfit = writes.find(|write| spoiled.contains(&write.stream) || store.version(write.stream) != write.expected);
    if let Some(wrong) = misfit {
        state.trace.count("append: conflict");
        return Err(AppendError::Conflict { stream: wrong.stream, expected: wrong.expected });
    }
    state.audit.commit(commit);
    for write in &commit.writes {
        let recorded = Recorded {
            stream: write.stream,
            first_version: write.expected.next(),
            time: commit.time,
            events: write.events.clone(),
        };
        state.note(process, "appended", short(write.stream), recorded.last_version().get());
        state.store.streams.entry(place(write.stream)).or_default().push(recorded.clone());
        state.store.feed.push(recorded);
        state.log.committed += 1;
    }
    let stored =
        StoredCommit { id: commit.id, time: commit.time, key: commit.key.clone(), receipt: commit.receipt.clone() };
    if let Some(keyed) = &commit.key {
        state.store.keys.insert(keyed.key.clone(), commit.id);
    }
    state.store.commits.insert(commit.id, stored);
    Ok(Appended::New)
}

/// The store as one process sees it.
#[derive(Clone)]
pub(crate) struct WorldStore(Line);

impl WorldStore {
    pub(super) const fn new(line: Line) -> Self {
        Self(line)
    }

    pub(super) const fn line(&self) -> &Line {
        &self.0
    }
}

impl EventStore for WorldStore {
    type Feed = WorldFeed;

    async fn append(&self, commits: Vec<Commit>) -> Vec<Result<Appended, AppendError>> {
        let (process, world, count) = (self.0.process, self.0.world.clone(), commits.len());
        let (mut fates, mut spoiled) = (Vec::with_capacity(count), BTreeSet::new());
        let mut answered = count;
        let change = self.0.change("store.append", move |state, step| {
            if step == 0 {
                fates.clear();
                spoiled.clear();
                answered = if state.strikes(Fault::Cut) { state.random.index(count + 1) } else { count };
            }
            let next = commits.get(fates.len());
            fates.extend(next.map(|commit| take_in_batch(state, process, commit, &mut spoiled)));
            world.0.store_grew.notify_waiters();
            (fates.len() == commits.len() || fates.len() == answered).then(|| {
                // The rest of the answer is lost, with or without the effects it would have reported.
                fates.resize_with(count, || Err(BackendError::unknown("store.append", "half an answer").into()));
                std::mem::take(&mut fates)
            })
        });
        match change.await {
            Ok(fates) => fates,
            Err(failure) => (0..count)
                .map(|_| Err(BackendError { source: failure.source.to_string().into(), ..failure }.into()))
                .collect(),
        }
    }

    async fn read_streams(
        &self,
        streams: &[StreamAfter],
        limit_each: usize,
    ) -> Result<Vec<Vec<Recorded>>, BackendError> {
        let read = |state: &State, wanted: &StreamAfter| {
            let mut events = 0;
            let recorded = state.store.of_stream(wanted.stream).iter();
            let recorded = recorded.filter(|one| one.last_version() > wanted.after);
            let enough = recorded.take_while(|one| {
                let more = events < limit_each;
                events += one.events.count as usize;
                more
            });
            enough.cloned().collect()
        };
        let answers = |state: &mut State| streams.iter().map(|wanted| read(state, wanted)).collect();
        self.0.ask("store.read_streams", answers).await
    }

    async fn find_commits(&self, ids: &[CommitId]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        let find = |state: &mut State| ids.iter().map(|id| state.store.commit(*id).cloned()).collect();
        self.0.ask("store.find_commits", find).await
    }

    async fn find_keys(&self, keys: &[IdempotencyKey]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        let find = |state: &mut State| keys.iter().map(|key| state.store.key(key).cloned()).collect();
        self.0.ask("store.find_keys", find).await
    }

    async fn scan(&self, slots: SlotRange, after: Option<StreamAfter>, limit: usize) -> Result<ScanPage, BackendError> {
        let scan = |state: &mut State| {
            let limit = if state.strikes(Fault::Short) { limit.min(2) } else { limit };
            state.store.scan(slots, after, limit)
        };
        self.0.ask("store.scan", scan).await
    }

    async fn heads(
        &self,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        let heads = |state: &mut State| {
            let behind = after.map(place);
            let from = behind.unwrap_or((0, AccountId::from_bytes([0; 16])));
            let streams = state.store.in_slots(slots, from).filter(|(place, _)| Some(**place) > behind);
            streams.map(|((_, stream), _)| (*stream, state.store.version(*stream))).take(limit).collect()
        };
        self.0.ask("store.heads", heads).await
    }

    async fn head(&self) -> Result<Position, BackendError> {
        self.0.ask("store.head", |state| position(state.store.feed.len())).await
    }

    async fn feed(&self, after: Position) -> Result<WorldFeed, FeedError> {
        let open = |state: &mut State| {
            let number = match &after {
                Position::Start => 0,
                Position::Number(number) => *number,
                Position::Token(_) => u64::MAX,
            };
            if number < state.store.forgotten || number > state.store.feed.len() as u64 {
                state.trace.count("feed: position lost");
                return Err(FeedError::Lost(after));
            }
            let repeats = state.strikes(Fault::FeedRepeats);
            let back = if repeats { state.random.below(FEED_REPEAT_MAX) } else { 0 };
            Ok(number.saturating_sub(back).max(state.store.forgotten))
        };
        let after = self.0.ask("store.feed", open).await??;
        Ok(WorldFeed { line: self.0.clone(), after })
    }
}

fn position(number: usize) -> Position {
    if number == 0 { Position::Start } else { Position::Number(number as u64) }
}

/// A feed of the simulated store.
pub(crate) struct WorldFeed {
    line: Line,
    after: u64,
}

impl WorldFeed {
    fn batch(&self, state: &mut State, limit: usize) -> Result<FeedBatch, FeedError> {
        let start = usize::try_from(self.after).expect("positions fit memory");
        if self.after < state.store.forgotten {
            state.trace.count("feed: position lost");
            return Err(FeedError::Lost(position(start)));
        }
        let limit = if state.strikes(Fault::Short) { 1 + state.random.index(limit.min(3)) } else { limit };
        let entries: Vec<FeedEntry> = (start + 1..)
            .zip(&state.store.feed[start..])
            .take(limit)
            .map(|(number, recorded)| FeedEntry { position: position(number), recorded: recorded.clone() })
            .collect();
        Ok(FeedBatch { reached: position(start + entries.len()), entries })
    }
}

impl ChangeFeed for WorldFeed {
    async fn next_batch(&mut self, limit: usize) -> Result<FeedBatch, FeedError> {
        let shared = self.line.world.0.clone();
        let grown = shared.store_grew.notified();
        let idle = self.line.world.with(|state| state.store.feed.len() as u64 == self.after);
        if idle {
            // Whether the feed grew or the wait timed out, the answer is what there is now.
            let _beat = timeout(FEED_BEAT, grown).await;
        }
        let batch = self.line.ask("store.next_batch", |state| self.batch(state, limit)).await??;
        self.after += batch.entries.len() as u64;
        Ok(batch)
    }
}

impl Snapshots for WorldStore {
    async fn load_snapshots(&self, streams: &[AccountId]) -> Result<Vec<Option<Snapshot>>, BackendError> {
        let load = |state: &mut State| streams.iter().map(|id| state.store.snapshots.get(id).cloned()).collect();
        self.0.ask("store.load_snapshots", load).await
    }

    async fn save_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), BackendError> {
        let save = move |state: &mut State, _: u32| {
            for snapshot in &snapshots {
                let kept = state.store.snapshots.entry(snapshot.stream).or_insert_with(|| snapshot.clone());
                if kept.version < snapshot.version {
                    kept.clone_from(snapshot);
                }
            }
            Some(())
        };
        self.0.change("store.save_snapshots", save).await
    }
}

impl World {
    /// Feeds can no longer begin before the present end of the store.
    pub(crate) fn forget_feed(&self) {
        self.with(|state| {
            state.store.forgotten = state.store.feed.len() as u64;
            state.note(CHAOS, Fault::FeedLost.name(), 0, state.store.forgotten);
        });
        self.0.store_grew.notify_waiters();
    }

    /// The store loses every snapshot.
    pub(crate) fn lose_snapshots(&self) {
        self.with(|state| {
            state.note(CHAOS, Fault::SnapshotsLost.name(), 0, state.store.snapshots.len() as u64);
            state.store.snapshots.clear();
        });
    }

    /// Appends a commit that comes from no process of the bank, bypassing every fault.
    pub(crate) fn intrude(&self, commit: &Commit) -> Result<Appended, AppendError> {
        let taken = self.with(|state| {
            state.note(CHAOS, Fault::Poison.name(), 0, 0);
            state.store.foreign += 1;
            take(state, CHAOS, commit, &BTreeSet::new())
        });
        self.0.store_grew.notify_waiters();
        taken
    }
}
