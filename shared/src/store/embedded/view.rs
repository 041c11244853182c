//! The recent rows up to some position: the committed ones for readers, all of them for the writer.

use std::collections::VecDeque;

use super::recent::{Place, Recent, Row, place};
use crate::coordinate::{Position, Version};
use crate::event::{Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::SlotRange;
use crate::store::{FeedEntry, IdempotencyKey, StoredCommit};

/// The recent rows up to some position.
#[derive(Clone, Copy)]
pub(super) struct View<'r> {
    recent: &'r Recent,
    through: u64,
}

impl<'r> View<'r> {
    pub(super) const fn new(recent: &'r Recent, through: u64) -> Self {
        Self { recent, through }
    }

    /// The same view without the rows after a position.
    pub(super) fn through(self, position: u64) -> Self {
        Self { through: self.through.min(position), ..self }
    }

    /// The position before the first row: everything up to it is read from the sorted tables.
    pub(super) const fn settled(self) -> u64 {
        self.recent.settled
    }

    /// The position of the last row; of the last settled one if there is none.
    pub(super) const fn last(self) -> u64 {
        self.through
    }

    /// How many rows it has.
    pub(super) const fn len(self) -> u64 {
        self.through.saturating_sub(self.recent.settled)
    }

    /// The rows in the order of their positions.
    pub(super) fn rows(self) -> impl Iterator<Item = (u64, &'r Row)> {
        (self.recent.settled + 1..=self.through).zip(&self.recent.rows)
    }

    fn row(self, position: u64) -> Option<&'r Row> {
        let index = position.checked_sub(self.recent.settled + 1)?;
        if position > self.through {
            return None;
        }
        self.recent.rows.get(usize::try_from(index).ok()?)
    }

    pub(super) fn commit(self, id: &CommitId) -> Option<&'r StoredCommit> {
        self.row(*self.recent.commits.get(id)?)?.commit.as_ref()
    }

    pub(super) fn key(self, key: &IdempotencyKey) -> Option<&'r StoredCommit> {
        self.row(*self.recent.keys.get(key)?)?.commit.as_ref()
    }

    /// The last version of a stream that has recent rows.
    pub(super) fn head(self, stream: AccountId) -> Option<Version> {
        let positions = self.recent.streams.get(&place(stream))?;
        positions.iter().rev().find_map(|position| self.row(*position)).map(|row| row.recorded.last_version())
    }

    /// The rows of a stream after a version, and whether they continue from that version without a gap.
    pub(super) fn stream(self, asked: StreamAfter, limit: usize) -> (Vec<Recorded>, bool) {
        let Some(positions) = self.recent.streams.get(&place(asked.stream)) else { return (Vec::new(), false) };
        let first = positions.front().and_then(|position| self.row(*position));
        let is_whole = first.is_some_and(|row| row.recorded.first_version <= asked.after.next());
        let mut page = Page { records: Vec::new(), events: 0, limit };
        self.read_on(positions, asked.after, &mut page);
        (page.records, is_whole)
    }

    /// The rows after a place in the order of the table, up to about `limit` events.
    pub(super) fn page(self, slots: SlotRange, after: Option<StreamAfter>, limit: usize) -> Vec<Recorded> {
        let mut page = Page { records: Vec::new(), events: 0, limit };
        for (place, positions) in self.recent.streams.range(first_place(slots, after.map(|after| after.stream))..) {
            if place.0 >= slots.end || page.is_full() {
                break;
            }
            let version = after.filter(|after| after.stream == place.1).map_or(Version::EMPTY, |after| after.after);
            self.read_on(positions, version, &mut page);
        }
        page.records
    }

    fn read_on(self, positions: &VecDeque<u64>, after: Version, page: &mut Page) {
        let is_before = |position: &u64| self.row(*position).is_some_and(|row| row.recorded.first_version <= after);
        let rows = positions.range(positions.partition_point(is_before)..);
        for row in rows.map_while(|position| self.row(*position)) {
            if page.is_full() {
                break;
            }
            page.events += row.recorded.events.count as usize;
            page.records.push(row.recorded.clone());
        }
    }

    /// The streams of some slots with their last versions, at most `limit`.
    pub(super) fn heads(self, slots: SlotRange, after: Option<AccountId>, limit: usize) -> Vec<(AccountId, Version)> {
        let from = first_place(slots, after);
        let streams = self.recent.streams.range(from..).take_while(|(place, _)| place.0 < slots.end);
        let behind = streams.map(|(place, _)| place.1).filter(|stream| Some(*stream) != after);
        behind.filter_map(|stream| Some((stream, self.head(stream)?))).take(limit).collect()
    }

    /// The rows of some slots in the order of the table, with their positions.
    pub(super) fn sorted(self, slots: SlotRange) -> impl Iterator<Item = (u64, u16, &'r Recorded)> {
        let streams = self.recent.streams.range(first_place(slots, None)..);
        let streams = streams.take_while(move |(place, _)| place.0 < slots.end);
        streams.flat_map(move |(place, positions)| {
            let row = move |position: &u64| Some((*position, place.0, &self.row(*position)?.recorded));
            positions.iter().map_while(row)
        })
    }

    /// The next writes of a feed, or `None` if not all of them are in memory.
    pub(super) fn fed(self, after: u64, limit: usize) -> Option<Vec<FeedEntry>> {
        if after < self.recent.settled {
            return None;
        }
        let next = |position| {
            let recorded = self.row(position)?.recorded.clone();
            Some(FeedEntry { position: Position::Number(position), recorded })
        };
        Some((after + 1..=self.through).take(limit).map_while(next).collect())
    }
}

/// A page that is filled until it has enough events.
struct Page {
    records: Vec<Recorded>,
    events: usize,
    limit: usize,
}

impl Page {
    const fn is_full(&self) -> bool {
        self.events >= self.limit
    }
}

/// Where the streams of some slots begin, or the place of the stream reached so far.
fn first_place(slots: SlotRange, reached: Option<AccountId>) -> Place {
    reached.map_or((slots.start, AccountId::from_bytes([0; 16])), place)
}
