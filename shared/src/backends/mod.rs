//! The four backends of a bank as one value.

mod open;
mod partitions;

pub use open::{AnyBackends, OpenBackendsError, open_store_alone};
pub use partitions::PartitionsError;

use crate::index::BalanceIndex;
use crate::lease::LeaseStore;
use crate::log::PartitionLog;
use crate::store::Store;

/// One backend for each port. Cheap to clone.
pub trait Backends: Clone + Send + Sync + 'static {
    /// The event store.
    type Store: Store;
    /// The partition log.
    type Log: PartitionLog;
    /// The leases.
    type Leases: LeaseStore;
    /// The balance index.
    type Index: BalanceIndex;

    /// The event store.
    fn store(&self) -> &Self::Store;
    /// The partition log.
    fn log(&self) -> &Self::Log;
    /// The leases.
    fn leases(&self) -> &Self::Leases;
    /// The balance index.
    fn index(&self) -> &Self::Index;
}

/// Four backends side by side.
#[derive(Clone, Debug)]
pub struct Ports<S, L, E, I> {
    /// The event store.
    pub store: S,
    /// The partition log.
    pub log: L,
    /// The leases.
    pub leases: E,
    /// The balance index.
    pub index: I,
}

impl<S: Store, L: PartitionLog, E: LeaseStore, I: BalanceIndex> Backends for Ports<S, L, E, I> {
    type Store = S;
    type Log = L;
    type Leases = E;
    type Index = I;

    fn store(&self) -> &S {
        &self.store
    }

    fn log(&self) -> &L {
        &self.log
    }

    fn leases(&self) -> &E {
        &self.leases
    }

    fn index(&self) -> &I {
        &self.index
    }
}
