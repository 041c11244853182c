//! The request for a repair: a register that a check writes and the worker of the partition removes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::coordinate::Revision;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::Generation;
use shared::partition::Partition;
use shared::store::{Registers, WriteError};

/// The prefix of the registers that hold requests.
const REQUESTS: &str = "repair/balance/";

/// What the worker of a partition is asked to do: to forget every balance it keeps in memory, and to write the
/// documents of these accounts anew, if there are any.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The generation that the worker feeds.
    pub(crate) generation: Generation,
    pub(crate) accounts: Vec<AccountId>,
}

/// A request as a worker finds it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Requested {
    pub(crate) request: Request,
    pub(crate) revision: Revision,
}

fn register_name(partition: Partition) -> String {
    format!("{REQUESTS}{:04}", partition.get())
}

fn partition_of(register_name: &str) -> Option<Partition> {
    register_name.strip_prefix(REQUESTS)?.parse().ok().map(Partition::new)
}

/// Where the request of a partition is; `None` if there is none.
pub(super) async fn revision<R: Registers>(
    registers: &R,
    partition: Partition,
) -> Result<Option<Revision>, BackendError> {
    let stored = registers.read_register(&register_name(partition)).await?;
    Ok(stored.map(|register| register.revision))
}

/// Leaves a request; `None` if somebody else has left one meanwhile.
pub(super) async fn leave<R: Registers>(
    registers: &R,
    partition: Partition,
    request: &Request,
) -> Result<Option<Revision>, BackendError> {
    let value = serde_json::to_vec(request).map_err(|error| BackendError::broken("request a repair", error))?;
    match registers.write_register(&register_name(partition), Revision::ABSENT, Bytes::from(value)).await {
        Ok(revision) => Ok(Some(revision)),
        Err(WriteError::Moved { .. }) => Ok(None),
        Err(WriteError::Backend(failure)) => Err(failure),
    }
}

/// Removes a request; `false` if it is no longer there.
pub(super) async fn remove<R: Registers>(
    registers: &R,
    partition: Partition,
    revision: Revision,
) -> Result<bool, BackendError> {
    match registers.remove_register(&register_name(partition), revision).await {
        Ok(()) => Ok(true),
        Err(WriteError::Moved { .. }) => Ok(false),
        Err(WriteError::Backend(failure)) => Err(failure),
    }
}

/// The requests that wait for workers.
///
/// # Errors
/// The store failed.
pub(crate) async fn requests<R: Registers>(registers: &R) -> Result<BTreeMap<Partition, Revision>, BackendError> {
    let listed = registers.list_registers(REQUESTS).await?;
    let named = listed.into_iter().filter_map(|(name, register)| Some((partition_of(&name)?, register.revision)));
    Ok(named.collect())
}

/// The request that waits for the worker of a partition.
///
/// # Errors
/// The store failed, or another release wrote a request that this one cannot read.
pub(crate) async fn requested<R: Registers>(
    registers: &R,
    partition: Partition,
) -> Result<Option<Requested>, BackendError> {
    let Some(stored) = registers.read_register(&register_name(partition)).await? else { return Ok(None) };
    let request = serde_json::from_slice(&stored.value)
        .map_err(|error| BackendError::broken("read the request for a repair", error))?;
    Ok(Some(Requested { request, revision: stored.revision }))
}

impl Requested {
    /// Tells whoever waits that the request was carried out.
    ///
    /// # Errors
    /// The store failed; the request may be carried out again, which is harmless.
    pub(crate) async fn done<R: Registers>(&self, registers: &R, partition: Partition) -> Result<(), BackendError> {
        remove(registers, partition, self.revision).await.map(|_| ())
    }
}
