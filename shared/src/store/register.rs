use std::future::Future;

use bytes::Bytes;

use crate::coordinate::Revision;
use crate::error::BackendError;

/// A small durable value and how often it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Grows with every write.
    pub revision: Revision,
    /// JSON, by convention; opaque to the store.
    pub value: Bytes,
}

/// Why a register was not written, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else wrote it since it was read: read again and decide again.
    #[error("register {name} is at {actual}, not at {expected}")]
    Moved {
        /// The register.
        name: String,
        /// What the writer believes.
        expected: Revision,
        /// What is true.
        actual: Revision,
    },
    /// The store failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Small durable values with compare-and-set, kept by the store beside the events.
///
/// R1  A write or removal whose expected revision is not the register's revision changes nothing.
/// R2  Revisions of a register grow, also over a removal.
/// R3  What was acknowledged survives like an event.
pub trait Registers: Clone + Send + Sync + 'static {
    /// The register of this name.
    fn read_register(&self, name: &str) -> impl Future<Output = Result<Option<Register>, BackendError>> + Send;

    /// Writes a register that is at `expected` ([`Revision::ABSENT`] for one that does not exist).
    fn write_register(
        &self,
        name: &str,
        expected: Revision,
        value: Bytes,
    ) -> impl Future<Output = Result<Revision, WriteError>> + Send;

    /// Removes a register that is at `expected`.
    fn remove_register(&self, name: &str, expected: Revision) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// All registers whose names begin so, ordered by name. Meant for names that are few.
    fn list_registers(
        &self,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<(String, Register)>, BackendError>> + Send;
}
