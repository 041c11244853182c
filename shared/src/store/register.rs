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
    /// Another writer changed it since it was read: read it and decide again.
    #[error("register {name} is at {actual}, not at {expected}")]
    Moved {
        /// The register.
        name: String,
        /// The revision the writer expected.
        expected: Revision,
        /// The register's actual revision.
        actual: Revision,
    },
    /// The store failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Small durable values with compare-and-set, kept by the store alongside the events.
///
/// R1  A write or removal whose expected revision is not the register's revision changes nothing.
/// R2  The revisions of a register grow, even across a removal.
/// R3  An acknowledged write or removal is as durable as an event.
pub trait Registers: Clone + Send + Sync + 'static {
    /// The register with this name.
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

    /// All registers whose names begin with `prefix`, ordered by name. Meant for few names.
    fn list_registers(
        &self,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<(String, Register)>, BackendError>> + Send;
}
