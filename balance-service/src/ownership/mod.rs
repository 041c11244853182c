//! The partitions this process owns: its fair share of all of them, by lease.
//!
//! Every process announces itself with a lease named after it and lists those of the others. [`mod@share`] decides
//! which partitions to acquire and release; [`owner`] works on a partition while its lease lasts. The leases of a
//! process that dies expire, and the others take over.

mod owner;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use metrics::gauge;
use shared::backends::Backends;
use shared::clock::Clock;
use shared::coordinate::Epoch;
use shared::error::BackendError;
use shared::index::BalanceIndex;
use shared::lease::{Candidate, Ended, Holder, LeaseName, LeaseStore, RENEWALS_PER_TTL, act_while_held};
use shared::partition::Partition;
use shared::telemetry::metric::LEASES_HELD;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::BalanceConfig;
use crate::partition_lease::{PARTITIONS, name_of, partition_of};
use crate::right_of_way::RightOfWay;
use crate::roster::Roster;
use crate::visibility::Visibility;
use owner::{OwnerError, PartitionOwner};
use share::{Moves, share};

/// The prefix of the leases by which processes announce themselves.
const MEMBERS: &str = "balance/member/";

/// Everything needed to own partitions.
#[derive(Clone)]
pub(crate) struct Ownership<B> {
    pub(crate) backends: B,
    pub(crate) config: BalanceConfig,
    pub(crate) clock: Clock,
    pub(crate) roster: Roster,
    pub(crate) visibility: Visibility,
    pub(crate) right_of_way: RightOfWay,
}

/// The partitions this process works on, each with the token that ends the work.
#[derive(Default)]
struct Owned {
    tokens: BTreeMap<Partition, CancellationToken>,
    tasks: JoinSet<(Partition, Ended<Result<(), OwnerError>>)>,
}

impl Owned {
    fn show(&self) {
        gauge!(LEASES_HELD.name).set(u32::try_from(self.tokens.len()).unwrap_or(u32::MAX));
    }
}

impl Drop for Owned {
    /// The tasks are aborted with it, so nothing is owned any more. Nothing else shows that while no lease is granted.
    fn drop(&mut self) {
        gauge!(LEASES_HELD.name).set(0);
    }
}

/// Announces this process and works on its share until `shutdown`; then releases everything.
pub(crate) async fn own_share<B: Backends>(
    ownership: Ownership<B>,
    shutdown: CancellationToken,
) -> Result<(), BackendError> {
    // An earlier run of this process under the same name may still hold it, until it expires.
    let candidate = Candidate {
        leases: ownership.backends.leases(),
        name: LeaseName(format!("{MEMBERS}{}", ownership.config.holder).into()),
        holder: &ownership.config.holder,
        ttl: ownership.config.lease_ttl,
        ask_every: ownership.config.lease_ttl / RENEWALS_PER_TTL,
    };
    // A member whose own lease is lost gives up its partitions too: dropping the work aborts all owners.
    candidate
        .act(&shutdown, |_| async {
            ownership.keep_share(&shutdown).await;
            info!("all partitions given back");
            Ok(())
        })
        .await
}

impl<B: Backends> Ownership<B> {
    async fn keep_share(&self, shutdown: &CancellationToken) {
        let mut owned = Owned::default();
        let pause = self.config.lease_ttl / RENEWALS_PER_TTL;
        while !shutdown.is_cancelled() {
            // A failure is retried shortly; work on the partitions already owned continues meanwhile.
            if let Err(failure) = self.rebalance(&mut owned, shutdown).await {
                debug!(%failure, "shares not looked at, trying again");
            }
            owned.show();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                Some(ended) = owned.tasks.join_next() => {
                    note_end(&mut owned, ended);
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        for token in owned.tokens.values() {
            token.cancel();
        }
        while owned.tasks.join_next().await.is_some() {}
    }

    async fn rebalance(&self, owned: &mut Owned, shutdown: &CancellationToken) -> Result<(), BackendError> {
        let moves = self.moves(owned).await?;
        for partition in moves.release {
            info!(%partition, "giving a partition back for a fair share");
            owned.tokens.get(&partition).inspect(|token| token.cancel());
        }
        for partition in moves.acquire {
            self.acquire(owned, partition, shutdown).await?;
        }
        Ok(())
    }

    /// What to acquire and release for a fair share, by the leases as they are now.
    async fn moves(&self, owned: &Owned) -> Result<Moves, BackendError> {
        let leases = self.backends.leases();
        let mut members: BTreeSet<Holder> = leases.list(MEMBERS).await?.into_iter().map(|held| held.holder).collect();
        members.insert(self.config.holder.clone());
        let mut owners = BTreeMap::new();
        for held in leases.list(PARTITIONS).await? {
            if let Some(partition) = partition_of(&held.name) {
                owners.insert(partition, held.holder);
            }
        }
        // What this process believes about its own partitions is newer than any list.
        owners.retain(|_, holder| *holder != self.config.holder);
        owners.extend(owned.tokens.keys().map(|partition| (*partition, self.config.holder.clone())));
        Ok(share(&self.config.holder, &members, &owners, self.config.partitions.all()))
    }

    async fn acquire(
        &self,
        owned: &mut Owned,
        partition: Partition,
        shutdown: &CancellationToken,
    ) -> Result<(), BackendError> {
        let (leases, ttl) = (self.backends.leases().clone(), self.config.lease_ttl);
        let above = self.highest_epoch(partition).await?;
        let asked = Instant::now();
        let name = name_of(partition);
        let Some(lease) = leases.acquire(&name, &self.config.holder, ttl, above).await? else { return Ok(()) };
        info!(%partition, epoch = %lease.epoch(), "partition acquired");
        let token = shutdown.child_token();
        let work = PartitionOwner::new(self, partition, lease.epoch(), token.clone()).run();
        owned.tokens.insert(partition, token);
        owned.tasks.spawn(async move { (partition, act_while_held(&leases, lease, asked, ttl, work).await) });
        Ok(())
    }

    /// The highest epoch in any checkpoint of the partition, so that a lease store that lost its data does not grant
    /// epochs that would be refused.
    async fn highest_epoch(&self, partition: Partition) -> Result<Epoch, BackendError> {
        let index = self.backends.index();
        let mut highest = Epoch::NONE;
        for generation in index.generations().await?.all {
            let checkpoint = index.checkpoint(generation, partition).await?;
            highest = highest.max(checkpoint.map_or(Epoch::NONE, |checkpoint| checkpoint.epoch));
        }
        Ok(highest)
    }
}

fn note_end(owned: &mut Owned, ended: Result<(Partition, Ended<Result<(), OwnerError>>), tokio::task::JoinError>) {
    match ended {
        Ok((partition, ended)) => {
            owned.tokens.remove(&partition);
            match ended {
                Ended::Done(Ok(())) => info!(%partition, "partition given back"),
                Ended::Done(Err(failure)) => warn!(%partition, %failure, "partition given back after a failure"),
                Ended::Lost => warn!(%partition, "partition lost"),
            }
        }
        // Aborted because another one has panicked (below).
        Err(failure) if failure.is_cancelled() => {}
        Err(panic) => {
            // It is not known which partition this was, so all begin again, each from its checkpoint.
            error!(%panic, "a partition's task died, starting all partitions again");
            owned.tasks.abort_all();
            owned.tokens.clear();
        }
    }
}
