//! The simulated lease store.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::coordinate::Epoch;
use shared::error::BackendError;
use shared::lease::{Held, Holder, Lease, LeaseName, LeaseStore, RenewError};
use tokio::time::Instant;

use super::fault::Fault;
use super::process::Line;
use super::trace::CHAOS;
use super::{State, World};

/// The leases held now, and the highest epoch granted for each, as far as the backend remembers.
#[derive(Debug, Default)]
pub(crate) struct LeaseState {
    held: BTreeMap<LeaseName, Grant>,
    epochs: BTreeMap<LeaseName, Epoch>,
}

#[derive(Debug)]
struct Grant {
    holder: Holder,
    epoch: Epoch,
    expires: Instant,
}

impl LeaseState {
    fn live(&mut self, name: &LeaseName) -> Option<&mut Grant> {
        self.held.get_mut(name).filter(|grant| Instant::now() < grant.expires)
    }

    /// The grant of a lease, if it is still the newest of its name.
    fn of_lease(&mut self, lease: &Lease) -> Option<&mut Grant> {
        self.live(lease.name()).filter(|grant| grant.epoch == lease.epoch() && grant.holder == *lease.holder())
    }
}

/// The lease store as one process sees it.
#[derive(Clone)]
pub(crate) struct WorldLeases(Line);

impl WorldLeases {
    pub(super) const fn new(line: Line) -> Self {
        Self(line)
    }
}

fn copy(lease: &Lease) -> Lease {
    Lease::granted(lease.name().clone(), lease.holder().clone(), lease.epoch())
}

impl LeaseStore for WorldLeases {
    async fn acquire(
        &self,
        name: &LeaseName,
        holder: &Holder,
        ttl: Duration,
        above: Epoch,
    ) -> Result<Option<Lease>, BackendError> {
        let (process, name, holder) = (self.0.process, name.clone(), holder.clone());
        let acquire = move |state: &mut State, _: u32| {
            if state.leases.live(&name).is_some() {
                state.trace.count("acquire: held");
                return Some(None);
            }
            let known = state.leases.epochs.get(&name).copied().unwrap_or(Epoch::NONE);
            let epoch = known.max(above).next();
            state.leases.epochs.insert(name.clone(), epoch);
            let grant = Grant { holder: holder.clone(), epoch, expires: Instant::now() + ttl };
            state.leases.held.insert(name.clone(), grant);
            state.note(process, "lease acquired", 0, epoch.get());
            Some(Some(Lease::granted(name.clone(), holder.clone(), epoch)))
        };
        self.0.change("lease.acquire", acquire).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), RenewError> {
        let lease = copy(lease);
        let renew = move |state: &mut State, _: u32| {
            if let Some(grant) = state.leases.of_lease(&lease) {
                grant.expires = Instant::now() + ttl;
                return Some(Ok(()));
            }
            state.trace.count("renew: lost");
            Some(Err(RenewError::Lost))
        };
        self.0.change("lease.renew", renew).await?
    }

    async fn release(&self, lease: Lease) -> Result<(), BackendError> {
        let process = self.0.process;
        let release = move |state: &mut State, _: u32| {
            if state.leases.of_lease(&lease).is_some() {
                state.leases.held.remove(lease.name());
                state.note(process, "lease released", 0, lease.epoch().get());
            }
            Some(())
        };
        self.0.change("lease.release", release).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Held>, BackendError> {
        let now = Instant::now();
        let list = |state: &mut State| {
            let named = state.leases.held.iter().filter(|(name, _)| name.0.starts_with(prefix));
            let held = named.filter(|(_, grant)| now < grant.expires);
            held.map(|(name, grant)| Held { name: name.clone(), holder: grant.holder.clone() }).collect()
        };
        self.0.ask("lease.list", list).await
    }
}

impl World {
    /// All leases are lost, and all knowledge of their epochs.
    pub(crate) fn flush_leases(&self) {
        self.with(|state| {
            state.note(CHAOS, Fault::LeasesFlushed.name(), 0, state.leases.held.len() as u64);
            state.leases = LeaseState::default();
        });
    }

    /// One lease expires early.
    pub(crate) fn expire_lease(&self) {
        self.with(|state| {
            let which = state.random.index(state.leases.held.len().max(1));
            if let Some(grant) = state.leases.held.values_mut().nth(which) {
                grant.expires = Instant::now();
                let epoch = grant.epoch.get();
                state.note(CHAOS, Fault::LeaseExpired.name(), 0, epoch);
            }
        });
    }
}
