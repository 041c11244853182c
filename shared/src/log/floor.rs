//! Floors: what of the log a projection still needs.
//!
//! M1  A floor is never above its worker's checkpoint, so records above the lowest floor may still be needed, and no
//!     worker needs those at or below it.
//!
//! A worker notes its floor in the store from time to time; the forwarder trims up to the lowest one. A floor of
//! another incarnation holds back nothing: its worker synchronises with the store anyway.
//!
//! M2  The next sweep removes the floor of a generation that does not exist, no matter who removed the generation or
//!     wrote the floor after that. Otherwise nothing would ever be trimmed again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Incarnation;
use crate::coordinate::{Offset, Revision};
use crate::error::BackendError;
use crate::index::Generation;
use crate::partition::Partition;
use crate::store::{Registers, WriteError};

/// The prefix of the registers that hold the floors of the balance projection.
pub const FLOORS: &str = "floor/balance/";

/// How far a worker has come, for the forwarder to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The partition.
    pub partition: Partition,
    /// The incarnation of the partition that the offset belongs to.
    pub incarnation: Incarnation,
    /// This worker no longer needs records at or below it.
    pub offset: Offset,
}

fn register_name(generation: Generation, partition: Partition) -> String {
    format!("{FLOORS}{generation}/{:04}", partition.get())
}

/// Notes a floor.
///
/// # Errors
/// The store failed, or another worker of the partition wrote at the same time; either way the floor stays lower than
/// it could be.
pub async fn write_floor<R: Registers>(registers: &R, generation: Generation, floor: &Floor) -> Result<(), WriteError> {
    let name = register_name(generation, floor.partition);
    let stored = registers.read_register(&name).await?;
    let revision = stored.map_or(Revision::ABSENT, |register| register.revision);
    let value = serde_json::to_vec(floor).map_err(|error| BackendError::broken("write_floor", error))?;
    registers.write_register(&name, revision, Bytes::from(value)).await.map(|_| ())
}

/// All floors.
///
/// # Errors
/// The store failed.
pub async fn read_floors<R: Registers>(registers: &R) -> Result<Vec<Floor>, BackendError> {
    let stored = registers.list_registers(FLOORS).await?;
    let floors = stored.iter().map(|(_, register)| serde_json::from_slice(&register.value));
    floors.collect::<Result<_, _>>().map_err(|error| BackendError::broken("read_floors", error))
}

/// Removes the floors of generations that do not exist, so that they no longer hold back trimming; returns how many.
///
/// Removing one too early, because its generation has just been created, costs no more than a synchronisation: its
/// worker notes it again.
///
/// # Errors
/// The store failed.
pub async fn sweep_floors<R: Registers>(registers: &R, existing: &[Generation]) -> Result<u64, BackendError> {
    let kept: Vec<String> = existing.iter().map(|generation| format!("{FLOORS}{generation}/")).collect();
    let mut swept = 0;
    for (name, register) in registers.list_registers(FLOORS).await? {
        if kept.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        match registers.remove_register(&name, register.revision).await {
            Ok(()) => swept += 1,
            // A worker that has not noticed yet has written it again. The next sweep removes it.
            Err(WriteError::Moved { .. }) => {}
            Err(WriteError::Backend(failure)) => return Err(failure),
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::DataFolder;
    use crate::store::EmbeddedStore;

    #[tokio::test]
    async fn floors_of_generations_that_are_gone_are_swept_whoever_wrote_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&DataFolder::open(folder.path()).unwrap()).unwrap();
        let floor = |partition, offset| Floor {
            partition: Partition::new(partition),
            incarnation: Incarnation("a".into()),
            offset: Offset::new(offset),
        };
        for (generation, offset) in [(1, 3), (2, 70), (12, 80)] {
            write_floor(&store, Generation(generation), &floor(1, offset)).await.unwrap();
            write_floor(&store, Generation(generation), &floor(2, offset)).await.unwrap();
        }
        assert_eq!(sweep_floors(&store, &[Generation(2), Generation(12)]).await.unwrap(), 2);
        let left = [floor(1, 70), floor(2, 70), floor(1, 80), floor(2, 80)];
        assert_eq!(read_floors(&store).await.unwrap(), left);
        // A worker that has not noticed yet.
        write_floor(&store, Generation(1), &floor(1, 4)).await.unwrap();
        assert_eq!(sweep_floors(&store, &[Generation(2), Generation(12)]).await.unwrap(), 1);
        assert_eq!(read_floors(&store).await.unwrap(), left);
    }
}
