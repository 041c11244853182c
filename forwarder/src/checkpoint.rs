use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::coordinate::{Offset, Position, Revision};
use shared::error::BackendError;
use shared::log::{Extent, Incarnation};
use shared::partition::Partition;
use shared::store::{Registers, WriteError};

/// The register that holds the checkpoint.
pub(crate) const REGISTER: &str = "forwarder/checkpoint";

/// Where a partition ended when the forwarder last wrote to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) incarnation: Incarnation,
    pub(crate) last: Offset,
}

impl End {
    /// An end that this incarnation never reaches, so it counts as lost, and the partition is renewed by the next who
    /// asks it where it ends.
    pub(crate) fn to_be_renewed(incarnation: Incarnation) -> Self {
        Self { incarnation, last: Offset::new(i64::MAX.cast_unsigned()) }
    }

    /// Whether a partition has lost records it held up to this end.
    pub(crate) fn is_lost_by(&self, extent: &Extent) -> bool {
        extent.has_lost(&self.incarnation, self.last)
    }
}

impl From<Extent> for End {
    fn from(Extent { incarnation, last, .. }: Extent) -> Self {
        Self { incarnation, last }
    }
}

/// Everything the feed yields up to `position` was published; the partitions then ended at `ends` or later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) position: Position,
    pub(crate) ends: BTreeMap<Partition, End>,
    /// When the last commit up to `position` was made; `None` if it is not known, as in what an earlier release noted.
    #[serde(default)]
    pub(crate) newest: Option<Timestamp>,
}

/// The register of the store in which the checkpoint is kept.
///
/// Two forwarders may write it alternately. Each note is correct by itself, so losing a race only means starting again
/// from the winner's note.
pub(crate) struct CheckpointRegister<S> {
    registers: S,
    revision: Revision,
}

impl<S: Registers> CheckpointRegister<S> {
    /// Reads the checkpoint; there is none before the first forwarder of a bank has started.
    pub(crate) async fn load(registers: S) -> Result<(Self, Option<Checkpoint>), BackendError> {
        let Some(stored) = registers.read_register(REGISTER).await? else {
            return Ok((Self { registers, revision: Revision::ABSENT }, None));
        };
        let checkpoint = serde_json::from_slice(&stored.value)
            .map_err(|error| BackendError::broken("read the forwarder's checkpoint", error))?;
        Ok((Self { registers, revision: stored.revision }, Some(checkpoint)))
    }

    /// Notes a checkpoint.
    pub(crate) async fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), WriteError> {
        let value = serde_json::to_vec(checkpoint)
            .map_err(|error| BackendError::broken("write the forwarder's checkpoint", error))?;
        self.revision = self.registers.write_register(REGISTER, self.revision, Bytes::from(value)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As of a forwarder that is upgraded.
    #[test]
    fn what_an_earlier_release_noted_is_read() {
        let noted: Checkpoint = serde_json::from_str(r#"{"position":{"number":7},"ends":{}}"#).unwrap();
        assert_eq!(noted, Checkpoint { position: Position::Number(7), ends: BTreeMap::new(), newest: None });
    }

    #[test]
    fn an_end_is_lost_by_its_own_life_alone_when_that_ends_before_it() {
        let extent = |life: &str, last| Extent {
            incarnation: Incarnation(life.into()),
            trimmed: Offset::START,
            last: Offset::new(last),
        };
        let end = End::from(extent("a", 7));
        for (life, last, lost) in [("a", 7, false), ("a", 8, false), ("a", 6, true), ("b", 6, false)] {
            assert_eq!(end.is_lost_by(&extent(life, last)), lost, "{life} that ends at {last}");
        }
    }
}
