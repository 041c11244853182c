//! The rows of table `recent` in memory, so that neither a command nor a reader has to look them up in the file.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::view::View;
use crate::event::Recorded;
use crate::id::{AccountId, CommitId};
use crate::partition::Slot;
use crate::store::{IdempotencyKey, StoredCommit};

/// One write, as a row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) recorded: Recorded,
    /// What the store keeps of the commit, in the row of its first write.
    pub(super) commit: Option<StoredCommit>,
}

/// The place of a stream in the order of `writes`.
pub(super) type Place = (u16, AccountId);

pub(super) fn place(stream: AccountId) -> Place {
    (Slot::of(&stream).get(), stream)
}

/// The rows after the last settled position, followed by those of the transaction under way.
#[derive(Debug)]
pub(super) struct Recent {
    /// In the order of their positions, which have no gap.
    pub(super) rows: VecDeque<Row>,
    /// The position before the first row.
    pub(super) settled: u64,
    /// The last committed position; readers see nothing after it.
    pub(super) committed: u64,
    /// The positions of each stream's rows, in the order of its versions.
    pub(super) streams: BTreeMap<Place, VecDeque<u64>>,
    pub(super) commits: HashMap<CommitId, u64>,
    pub(super) keys: HashMap<IdempotencyKey, u64>,
    /// The greatest id in table `commits`.
    greatest_settled: Option<CommitId>,
}

impl Recent {
    /// No recent rows, in a store whose last position is `settled`.
    pub(super) fn behind(settled: u64, greatest_settled: Option<CommitId>) -> Self {
        Self {
            rows: VecDeque::new(),
            settled,
            committed: settled,
            streams: BTreeMap::new(),
            commits: HashMap::new(),
            keys: HashMap::new(),
            greatest_settled,
        }
    }

    /// The committed rows.
    pub(super) const fn committed(&self) -> View<'_> {
        View::new(self, self.committed)
    }

    /// All rows, including those not committed yet: for the writer alone.
    pub(super) fn all(&self) -> View<'_> {
        View::new(self, self.last())
    }

    /// The position of the last row; of the last settled one if there is none.
    pub(super) fn last(&self) -> u64 {
        self.settled + self.rows.len() as u64
    }

    /// Whether a commit with this id can be among the settled ones. Ids sort by creation time, so the id of a new
    /// command is greater than all of theirs.
    pub(super) fn may_be_settled(&self, id: &CommitId) -> bool {
        self.greatest_settled.as_ref().is_some_and(|greatest| id <= greatest)
    }

    /// Adds a row that is not committed yet.
    pub(super) fn push(&mut self, row: Row) {
        let position = self.last() + 1;
        self.streams.entry(place(row.recorded.stream)).or_default().push_back(position);
        if let Some(commit) = &row.commit {
            self.commits.insert(commit.id, position);
            if let Some(keyed) = &commit.key {
                self.keys.insert(keyed.key.clone(), position);
            }
        }
        self.rows.push_back(row);
    }

    /// Marks the rows through this position as committed.
    pub(super) fn commit_through(&mut self, position: u64) {
        self.committed = self.committed.max(position);
    }

    /// Removes the rows after a position, whose transaction was not committed.
    pub(super) fn take_back_behind(&mut self, position: u64) {
        while self.last() > position.max(self.committed) {
            let position = self.last();
            if let Some(row) = self.rows.pop_back() {
                self.leave_out(position, &row);
            }
        }
    }

    /// Drops the rows through this position, which are settled now.
    pub(super) fn forget_through(&mut self, position: u64) {
        while self.settled < position {
            let Some(row) = self.rows.pop_front() else { break };
            self.settled += 1;
            self.leave_out(self.settled, &row);
            self.greatest_settled = self.greatest_settled.max(row.commit.map(|commit| commit.id));
        }
    }

    /// Removes the first or the last row from the maps.
    fn leave_out(&mut self, position: u64, row: &Row) {
        if let Entry::Occupied(mut stream) = self.streams.entry(place(row.recorded.stream)) {
            let positions = stream.get_mut();
            if positions.front() == Some(&position) {
                positions.pop_front();
            } else {
                positions.pop_back();
            }
            if positions.is_empty() {
                stream.remove();
            }
        }
        if let Some(commit) = &row.commit {
            self.commits.remove(&commit.id);
            if let Some(keyed) = &commit.key {
                self.keys.remove(&keyed.key);
            }
        }
    }
}

/// [`Recent`], shared by all readers and the writer thread, which alone changes it.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<RwLock<Recent>>);

impl Shared {
    pub(super) fn new(recent: Recent) -> Self {
        Self(Arc::new(RwLock::new(recent)))
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Recent> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic in a write leaves at most uncommitted rows, which the next append removes.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Recent> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
