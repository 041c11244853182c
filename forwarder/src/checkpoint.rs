use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::coordinate::{Offset, Position, Revision};
use shared::error::BackendError;
use shared::log::Incarnation;
use shared::partition::Partition;
use shared::store::{Registers, WriteError};

/// The register the checkpoint stands in.
pub(crate) const REGISTER: &str = "forwarder/checkpoint";

/// Where a partition ended when the forwarder last wrote to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) incarnation: Incarnation,
    pub(crate) last: Offset,
}

/// Everything the feed yields up to `position` was published, and then the partitions ended at `ends` or behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) position: Position,
    pub(crate) ends: BTreeMap<Partition, End>,
}

/// The forwarder's place in the store, kept by the store.
///
/// Two forwarders may write it in turns. Each note is true by itself, so the only thing a lost race costs is that the
/// loser starts again from what the winner noted.
pub(crate) struct Checkpoint<S> {
    registers: S,
    revision: Revision,
}

impl<S: Registers> Checkpoint<S> {
    /// Reads the checkpoint; there is none before the first forwarder of a bank has started.
    pub(crate) async fn load(registers: S) -> Result<(Self, Option<Progress>), BackendError> {
        let Some(stored) = registers.read_register(REGISTER).await? else {
            return Ok((Self { registers, revision: Revision::ABSENT }, None));
        };
        let progress = serde_json::from_slice(&stored.value)
            .map_err(|error| BackendError::broken("read the forwarder's checkpoint", error))?;
        Ok((Self { registers, revision: stored.revision }, Some(progress)))
    }

    /// Notes the progress.
    pub(crate) async fn save(&mut self, progress: &Progress) -> Result<(), WriteError> {
        let value = serde_json::to_vec(progress)
            .map_err(|error| BackendError::broken("write the forwarder's checkpoint", error))?;
        self.revision = self.registers.write_register(REGISTER, self.revision, Bytes::from(value)).await?;
        Ok(())
    }
}
