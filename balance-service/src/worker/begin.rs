//! Where a worker starts, given its checkpoint and what the log holds.

use shared::coordinate::Offset;
use shared::event::StreamAfter;
use shared::index::{Checkpoint, Phase};
use shared::log::{Extent, Incarnation};

/// Where a worker starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Fill the generation from the store.
    Replay(Plan),
    /// Compare with the store and fill what is missing.
    Synchronise {
        /// How many events its replay had, to be noted again.
        replayed: u64,
    },
    /// Read the log after the checkpoint.
    Follow(Checkpoint),
}

/// A replay that begins or continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The incarnation of the partition in which live reading will begin.
    pub(super) incarnation: Incarnation,
    /// The offset after which live reading will begin: the end of the partition before anything was scanned.
    pub(super) offset: Offset,
    /// The last stream that is complete.
    pub(super) after: Option<StreamAfter>,
    /// Events replayed so far.
    pub(super) done: u64,
}

/// Decides where to start from the noted checkpoint and the extent of the log. Pure.
pub(super) fn begin(noted: Option<Checkpoint>, extent: &Extent) -> Begin {
    let from_the_start =
        Begin::Replay(Plan { incarnation: extent.incarnation.clone(), offset: extent.last, after: None, done: 0 });
    let Some(checkpoint) = noted else { return from_the_start };
    let continues =
        checkpoint.incarnation == extent.incarnation && (extent.trimmed..=extent.last).contains(&checkpoint.offset);
    match checkpoint.phase {
        Phase::Live { .. } if continues => Begin::Follow(checkpoint),
        Phase::Live { replayed } => Begin::Synchronise { replayed },
        // The end noted when the replay began stays: streams it has passed may have grown by records after that end.
        Phase::Replaying { after, done } if continues => {
            Begin::Replay(Plan { incarnation: checkpoint.incarnation, offset: checkpoint.offset, after, done })
        }
        // Streams already replayed may have grown by events that the log no longer holds.
        Phase::Replaying { .. } => from_the_start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coordinate::{Epoch, Offset};
    use shared::log::Incarnation;
    use shared::partition::Partition;

    fn extent(life: &str, trimmed: u64, last: u64) -> Extent {
        let incarnation = Incarnation(life.into());
        Extent { incarnation, trimmed: Offset::new(trimmed), last: Offset::new(last) }
    }

    fn at(offset: u64, phase: Phase) -> Checkpoint {
        let incarnation = Incarnation("a".into());
        Checkpoint {
            partition: Partition::new(1),
            epoch: Epoch::new(1),
            incarnation,
            offset: Offset::new(offset),
            phase,
        }
    }

    #[test]
    fn a_worker_follows_only_a_log_that_continues_from_its_checkpoint() {
        let live = Phase::Live { replayed: 3 };
        for (extent, follows) in [
            (extent("a", 5, 9), true),
            (extent("a", 7, 7), true),
            (extent("a", 8, 9), false),
            (extent("a", 0, 6), false),
            (extent("b", 5, 9), false),
        ] {
            let begun = begin(Some(at(7, live)), &extent);
            assert_eq!(matches!(begun, Begin::Follow(_)), follows, "{extent:?}");
            assert_eq!(begun == Begin::Synchronise { replayed: 3 }, !follows, "{extent:?}");
        }
    }

    #[test]
    fn a_replay_whose_log_moved_starts_over() {
        let replaying = Phase::Replaying { after: None, done: 4 };
        let plan = |noted, extent: &Extent| match begin(noted, extent) {
            Begin::Replay(plan) => (plan.incarnation, plan.offset.get(), plan.done),
            other @ (Begin::Synchronise { .. } | Begin::Follow(_)) => panic!("{other:?}"),
        };
        let life = |name: &str| Incarnation(name.into());
        assert_eq!(plan(Some(at(7, replaying)), &extent("a", 0, 9)), (life("a"), 7, 4));
        assert_eq!(plan(Some(at(7, replaying)), &extent("b", 0, 9)), (life("b"), 9, 0));
        assert_eq!(plan(None, &extent("a", 0, 5)), (life("a"), 5, 0));
    }
}
