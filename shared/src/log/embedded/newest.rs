//! The newest records in memory, so that readers at the end of the log do not read the file.

use std::sync::{Arc, Mutex, PoisonError};

use crate::coordinate::Offset;
use crate::log::{Incarnation, Record};
use crate::partition::PartitionMap;
use crate::sqlite::Tail;

/// How many of a partition's newest records stay in memory for readers that follow it: some megabytes per partition.
const RECORDS_KEPT: usize = 4_096;

/// The newest records of each partition, as the file has them. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Newest(Arc<[Mutex<Life>]>);

/// The newest records of one incarnation of a partition, or of none before the first publish.
#[derive(Debug)]
struct Life {
    incarnation: Option<Incarnation>,
    tail: Tail<Record>,
}

impl Newest {
    pub(super) fn of(partitions: PartitionMap) -> Self {
        let empty = || Mutex::new(Life { incarnation: None, tail: Tail::new(RECORDS_KEPT) });
        Self(partitions.all().map(|_| empty()).collect())
    }

    /// Adds the records published to the partition at index `place`.
    pub(super) fn push(&self, place: usize, incarnation: &Incarnation, records: Vec<Record>) {
        let Some(first) = records.first().map(|record| record.offset.get()) else { return };
        self.change(place, |life| {
            if life.incarnation.as_ref() != Some(incarnation) {
                life.tail.clear();
                life.incarnation = Some(incarnation.clone());
            }
            life.tail.push(first, records);
        });
    }

    /// The records after an offset of this incarnation, or `None` if only the file can tell.
    pub(super) fn after(
        &self,
        place: usize,
        incarnation: &Incarnation,
        after: Offset,
        limit: usize,
    ) -> Option<Vec<Record>> {
        let life = self.0[place].lock().unwrap_or_else(PoisonError::into_inner);
        if life.incarnation.as_ref() == Some(incarnation) { life.tail.after(after.get(), limit) } else { None }
    }

    /// Trimmed records are no longer yielded (law L4).
    pub(super) fn trimmed(&self, place: usize, through: Offset) {
        self.change(place, |life| life.tail.forget_through(through.get()));
    }

    /// The incarnation has ended.
    pub(super) fn renewed(&self, place: usize) {
        self.change(place, |life| {
            life.incarnation = None;
            life.tail.clear();
        });
    }

    fn change(&self, place: usize, change: impl FnOnce(&mut Life)) {
        change(&mut self.0[place].lock().unwrap_or_else(PoisonError::into_inner));
    }
}
