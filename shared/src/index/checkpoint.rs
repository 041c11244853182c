use serde::{Deserialize, Serialize};

use crate::coordinate::{Epoch, Offset};
use crate::event::StreamAfter;
use crate::log::Incarnation;
use crate::partition::Partition;

/// How far a worker has come with one partition of one generation, kept in the index beside the balances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The partition.
    pub partition: Partition,
    /// The grant under which the worker wrote it.
    pub epoch: Epoch,
    /// The incarnation of the partition that the offset belongs to.
    pub incarnation: Incarnation,
    /// The worker follows the log after this offset, now or when the replay is done.
    pub offset: Offset,
    /// What the worker is doing.
    pub phase: Phase,
}

/// What a worker is doing with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Phase {
    /// Filling the generation from the store.
    Replaying {
        /// The last stream that is completely in the index; `None` before the first is.
        after: Option<StreamAfter>,
        /// Events replayed so far.
        done: u64,
    },
    /// Following the log.
    Live {
        /// Events that were replayed before.
        replayed: u64,
    },
}
