//! Which partition an account belongs to.
//!
//! An account hashes to one of [`SLOTS`] fixed slots; a [`PartitionMap`] spreads the slots over the partitions in use.
//! A partition owns a contiguous range of slots, so its streams are adjacent in a store that is sorted by slot. The
//! hash is part of the data's format: changing it would lose the order of every stream that moves, so a test pins it.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::id::AccountId;

/// How many slots there are, for ever.
pub const SLOTS: u16 = 1_024;

/// One of [`SLOTS`] fixed groups of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(u16);

impl Slot {
    /// The slot of an account: XXH3 (64 bits) of the sixteen bytes of its id, modulo [`SLOTS`].
    #[must_use]
    pub fn of(account: &AccountId) -> Self {
        Self(u16::try_from(xxh3_64(account.as_bytes()) % u64::from(SLOTS)).unwrap_or_default())
    }

    /// The plain number, 0 .. [`SLOTS`].
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A contiguous run of slots, the end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotRange {
    /// The first slot.
    pub start: u16,
    /// The first slot after the range.
    pub end: u16,
}

impl SlotRange {
    /// Every slot.
    pub const ALL: Self = Self { start: 0, end: SLOTS };

    /// Whether the slot lies in the range.
    #[must_use]
    pub const fn contains(self, slot: Slot) -> bool {
        self.start <= slot.0 && slot.0 < self.end
    }
}

/// One of `balance.1 ..= balance.N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(u16);

impl Partition {
    /// The partition with this number, from 1.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number, from 1.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// Why a number of partitions cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the number of partitions must be 1 to {SLOTS}, not {0}")]
pub struct PartitionCountError(pub u16);

/// How the slots are spread over the partitions in use; a later map has a higher version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionMap {
    version: u32,
    partitions: u16,
}

impl PartitionMap {
    /// The first map of a bank.
    ///
    /// # Errors
    /// A bank has 1 to [`SLOTS`] partitions.
    pub const fn new(partitions: u16) -> Result<Self, PartitionCountError> {
        if partitions == 0 || partitions > SLOTS {
            return Err(PartitionCountError(partitions));
        }
        Ok(Self { version: 1, partitions })
    }

    /// How many partitions the map has.
    #[must_use]
    pub const fn partitions(self) -> u16 {
        self.partitions
    }

    /// All partitions, in order.
    pub fn all(self) -> impl Iterator<Item = Partition> + Clone {
        (1..=self.partitions).map(Partition)
    }

    /// The partition that owns a slot.
    #[must_use]
    pub fn partition_of_slot(self, slot: Slot) -> Partition {
        // The greatest p with start(p) <= slot, where start(p) = ceil(p * SLOTS / N).
        let index = u32::from(slot.0) * u32::from(self.partitions) / u32::from(SLOTS);
        Partition(u16::try_from(index + 1).unwrap_or(self.partitions))
    }

    /// The partition of an account.
    ///
    /// ```
    /// use shared::id::AccountId;
    /// use shared::partition::PartitionMap;
    /// let map = PartitionMap::new(8).unwrap();
    /// let partition = map.partition_of(&AccountId::from_bytes([7; 16]));
    /// assert!((1..=8).contains(&partition.get()));
    /// ```
    #[must_use]
    pub fn partition_of(self, account: &AccountId) -> Partition {
        self.partition_of_slot(Slot::of(account))
    }

    /// The slots of a partition.
    #[must_use]
    pub fn slots(self, partition: Partition) -> SlotRange {
        let bounds: Range<u16> = self.first_slot(partition.0 - 1)..self.first_slot(partition.0);
        SlotRange { start: bounds.start, end: bounds.end }
    }

    fn first_slot(self, index: u16) -> u16 {
        let first = (u32::from(index) * u32::from(SLOTS)).div_ceil(u32::from(self.partitions));
        u16::try_from(first).unwrap_or(SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Golden values: a change here means that existing banks no longer find their accounts.
    #[test]
    fn the_hash_never_changes() {
        let golden = [([0; 16], 360), ([1; 16], 526), ([2; 16], 698), ([0xff; 16], 787)];
        for (bytes, slot) in golden {
            assert_eq!(Slot::of(&AccountId::from_bytes(bytes)).get(), slot, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_slot_belongs_to_exactly_the_partition_whose_range_holds_it(partitions in 1..=SLOTS, slot in 0..SLOTS) {
            let map = PartitionMap::new(partitions).unwrap();
            let owner = map.partition_of_slot(Slot(slot));
            for partition in map.all() {
                prop_assert_eq!(map.slots(partition).contains(Slot(slot)), partition == owner);
            }
        }
    }

    #[test]
    fn the_ranges_cover_all_slots_without_overlap() {
        for partitions in [1, 2, 3, 7, 8, 100, SLOTS] {
            let map = PartitionMap::new(partitions).unwrap();
            let mut next = 0;
            for partition in map.all() {
                let range = map.slots(partition);
                assert_eq!(range.start, next);
                next = range.end;
            }
            assert_eq!(next, SLOTS);
        }
    }
}
