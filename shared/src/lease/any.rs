//! The lease backend that the settings select.

use std::time::Duration;

#[cfg(feature = "redis")]
use super::redis::RedisLeases;
use super::{EmbeddedLeases, Held, Holder, Lease, LeaseName, LeaseStore, RenewError};
use crate::coordinate::Epoch;
use crate::durability::Weakness;
use crate::error::BackendError;

/// One of the backends of this port.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "redis", expect(clippy::large_enum_variant, reason = "a process has one, and few clones"))]
pub enum AnyLeases {
    /// In the process, with epochs in a file in the data folder.
    Embedded(EmbeddedLeases),
    /// Keys of a Redis server.
    #[cfg(feature = "redis")]
    Redis(RedisLeases),
}

macro_rules! each {
    ($any:expr, $backend:ident => $call:expr) => {
        match $any {
            Self::Embedded($backend) => $call,
            #[cfg(feature = "redis")]
            Self::Redis($backend) => $call,
        }
    };
}

impl AnyLeases {
    /// Where a server's settings guarantee less than a bank should have; a file's settings are our own.
    pub async fn weaknesses(&self) -> Vec<Weakness> {
        match self {
            Self::Embedded(_) => Vec::new(),
            #[cfg(feature = "redis")]
            Self::Redis(leases) => leases.weaknesses().await,
        }
    }
}

impl LeaseStore for AnyLeases {
    async fn acquire(
        &self,
        name: &LeaseName,
        holder: &Holder,
        ttl: Duration,
        above: Epoch,
    ) -> Result<Option<Lease>, BackendError> {
        each!(self, leases => leases.acquire(name, holder, ttl, above).await)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), RenewError> {
        each!(self, leases => leases.renew(lease, ttl).await)
    }

    async fn release(&self, lease: Lease) -> Result<(), BackendError> {
        each!(self, leases => leases.release(lease).await)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Held>, BackendError> {
        each!(self, leases => leases.list(prefix).await)
    }
}
