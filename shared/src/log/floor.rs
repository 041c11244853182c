//! Floors: what of the log a projection still needs.
//!
//! M1  A floor is never above the checkpoint it stands for, so what lies above the lowest floor may still be needed and
//!     what lies below it is needed by nobody.
//!
//! A worker notes its floor in the store from time to time; the forwarder trims below the lowest one. A floor of
//! another incarnation holds nothing: its worker synchronises with the store anyway.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Incarnation;
use crate::coordinate::{Offset, Revision};
use crate::error::BackendError;
use crate::index::Generation;
use crate::partition::Partition;
use crate::store::{Registers, WriteError};

/// Where all floors of the balance projection stand.
pub const FLOORS: &str = "floor/balance/";

/// How far a worker has come, as the forwarder may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The partition.
    pub partition: Partition,
    /// The life of the partition that the offset belongs to.
    pub incarnation: Incarnation,
    /// Records at or below it are not needed by this worker any more.
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

/// Forgets the floors of a generation that is gone, so that it holds the log no longer.
///
/// # Errors
/// The store failed.
pub async fn remove_floors<R: Registers>(registers: &R, generation: Generation) -> Result<(), BackendError> {
    for (name, register) in registers.list_registers(&format!("{FLOORS}{generation}/")).await? {
        match registers.remove_register(&name, register.revision).await {
            // Somebody wrote it meanwhile: a worker that has not noticed yet. The next clean-up takes it.
            Ok(()) | Err(WriteError::Moved { .. }) => {}
            Err(WriteError::Backend(failure)) => return Err(failure),
        }
    }
    Ok(())
}
