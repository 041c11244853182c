//! Leases: the right to act alone until it expires.
//!
//! Leases save work; correctness does not depend on them. A holder that was frozen past its lease wakes up as a zombie,
//! and everything a zombie can still do is either harmless by version or refused by epoch. One exception is known; it
//! also takes a write that is delayed until the moment of a switch (`index/elastic/mod.rs`).
//!
//! E1  While a lease has not expired by the backend's clock, nobody else is granted it.
//! E2  Each grant of a lease has a higher epoch than every earlier grant of it, and a higher one than `above`, even
//!     after a restart of the backend.
//! E3  Renewing or releasing a lease that has since been granted to somebody else changes nothing.
//!
//! A holder counts its own deadline from the moment *before* it asked, on its own monotonic clock, so for the holder
//! the lease always ends sooner than for the backend.

mod any;
mod candidate;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod embedded;
#[cfg(feature = "redis")]
mod redis;
mod tenure;

use std::fmt;
use std::future::Future;
use std::time::Duration;

pub use any::AnyLeases;
pub use candidate::Candidate;
pub use embedded::EmbeddedLeases;
#[cfg(feature = "redis")]
pub use redis::RedisLeases;
use serde::{Deserialize, Serialize};
pub use tenure::{Ended, RENEWALS_PER_TTL, act_while_held};

use crate::coordinate::Epoch;
use crate::error::BackendError;

/// What a lease is for, such as `balance/partition/3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseName(pub Box<str>);

/// Who holds a lease: a process, by a name it gives itself at start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Holder(pub Box<str>);

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A granted right. Not `Clone`: a right has one owner.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    name: LeaseName,
    holder: Holder,
    epoch: Epoch,
}

impl Lease {
    /// For backends only: the grant of a lease.
    #[must_use]
    pub const fn granted(name: LeaseName, holder: Holder, epoch: Epoch) -> Self {
        Self { name, holder, epoch }
    }

    /// What the lease is for.
    #[must_use]
    pub const fn name(&self) -> &LeaseName {
        &self.name
    }

    /// Who holds it.
    #[must_use]
    pub const fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The number of this grant.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// Why a lease was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// It expired, or was granted to somebody else: stop acting.
    #[error("the lease is lost")]
    Lost,
    /// The backend failed: the lease lives on until its deadline.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The lease.
    pub name: LeaseName,
    /// Its holder.
    pub holder: Holder,
}

/// Leases; see the laws E1 to E3 of this module.
pub trait LeaseStore: Clone + Send + Sync + 'static {
    /// Takes a free or expired lease for `ttl`, with an epoch above `above` (the highest one known where checkpoints
    /// are kept). `None` if it is held, even by the same holder.
    fn acquire(
        &self,
        name: &LeaseName,
        holder: &Holder,
        ttl: Duration,
        above: Epoch,
    ) -> impl Future<Output = Result<Option<Lease>, BackendError>> + Send;

    /// Extends a lease to `ttl` from now.
    fn renew(&self, lease: &Lease, ttl: Duration) -> impl Future<Output = Result<(), RenewError>> + Send;

    /// Gives a lease back before it expires.
    fn release(&self, lease: Lease) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// The leases held now whose names begin with `prefix`, ordered by name.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<Held>, BackendError>> + Send;
}
