//! Backends that fail, or that do what the embedded ones never do.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::coordinate::{Epoch, Offset, Version};
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{
    Applied, ApplyError, Balance, BalanceIndex, BalancePage, BalanceQuery, Checkpoint, EmbeddedIndex, Generation,
    Generations, Loaded, Parked, Projected, PromoteError, QueryError, Seal, Sealing,
};
use shared::lease::{Held, Holder, Lease, LeaseName, LeaseStore, RenewError};
use shared::log::{EmbeddedReader, Extent, Incarnation, PartitionLog, PublishError, ReadError};
use shared::partition::{Partition, SlotRange};
use shared::store::FeedEntry;

/// A log, or leases, of which every call fails.
#[derive(Clone)]
pub(crate) struct Away;

fn failure(operation: &'static str) -> BackendError {
    BackendError::not_done(operation, "the server is away")
}

impl PartitionLog for Away {
    type Reader = EmbeddedReader;

    async fn extent(&self, _: Partition) -> Result<Extent, BackendError> {
        Err(failure("extent"))
    }

    async fn publish(&self, _: Partition, _: &Incarnation, _: Offset, _: &[FeedEntry]) -> Result<Offset, PublishError> {
        Err(failure("publish").into())
    }

    async fn reader(&self, _: Partition, _: &Incarnation, _: Offset) -> Result<EmbeddedReader, ReadError> {
        Err(failure("reader").into())
    }

    async fn trim(&self, _: Partition, _: Offset, _: Timestamp) -> Result<u64, BackendError> {
        Err(failure("trim"))
    }

    async fn renew(&self, _: Partition, _: &Incarnation) -> Result<Extent, BackendError> {
        Err(failure("renew"))
    }
}

impl LeaseStore for Away {
    async fn acquire(&self, _: &LeaseName, _: &Holder, _: Duration, _: Epoch) -> Result<Option<Lease>, BackendError> {
        Err(failure("acquire"))
    }

    async fn renew(&self, _: &Lease, _: Duration) -> Result<(), RenewError> {
        Err(failure("renew").into())
    }

    async fn release(&self, _: Lease) -> Result<(), BackendError> {
        Err(failure("release"))
    }

    async fn list(&self, _: &str) -> Result<Vec<Held>, BackendError> {
        Err(failure("list"))
    }
}

/// What an index does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never says which generations there are.
    Silent,
    /// It refuses the first document of every write.
    RefusesDocuments,
}

/// Why a document is refused.
pub(crate) const REFUSED: &str = "mapper_parsing_exception: failed to parse field [owner]";

/// An index with a fault.
#[derive(Clone)]
pub(crate) struct RoughIndex {
    pub(crate) inner: EmbeddedIndex,
    pub(crate) fault: Fault,
}

impl BalanceIndex for RoughIndex {
    async fn generations(&self) -> Result<Generations, BackendError> {
        match self.fault {
            Fault::Silent => std::future::pending().await,
            Fault::RefusesDocuments => self.inner.generations().await,
        }
    }

    async fn create(&self) -> Result<Generation, BackendError> {
        self.inner.create().await
    }

    async fn prepare(&self, generation: Generation) -> Result<(), ApplyError> {
        self.inner.prepare(generation).await
    }

    async fn promote(
        &self,
        generation: Generation,
        expected: Option<(Generation, Sealing)>,
    ) -> Result<(), PromoteError> {
        self.inner.promote(generation, expected).await
    }

    async fn seal(&self, generation: Generation, seal: Seal) -> Result<Sealing, ApplyError> {
        self.inner.seal(generation, seal).await
    }

    async fn unseal(&self, generation: Generation, seal: Seal) -> Result<(), BackendError> {
        self.inner.unseal(generation, seal).await
    }

    async fn discard(&self, generation: Generation) -> Result<(), BackendError> {
        self.inner.discard(generation).await
    }

    async fn apply(&self, generation: Generation, projected: &Projected) -> Result<Applied, ApplyError> {
        match (self.fault, projected.balances.first()) {
            (Fault::RefusesDocuments, Some(balance)) => {
                Err(ApplyError::Refused { account: balance.id, reason: REFUSED.to_owned() })
            }
            (Fault::RefusesDocuments, None) | (Fault::Silent, _) => self.inner.apply(generation, projected).await,
        }
    }

    async fn repair(&self, generation: Generation, balances: Vec<Balance>) -> Result<(), ApplyError> {
        self.inner.repair(generation, balances).await
    }

    async fn unpark(&self, generation: Generation, accounts: &[AccountId]) -> Result<(), ApplyError> {
        self.inner.unpark(generation, accounts).await
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        partition: Partition,
    ) -> Result<Option<Checkpoint>, BackendError> {
        self.inner.checkpoint(generation, partition).await
    }

    async fn load(&self, generation: Generation, accounts: &[AccountId]) -> Result<Vec<Loaded>, BackendError> {
        self.inner.load(generation, accounts).await
    }

    async fn versions(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        self.inner.versions(generation, slots, after, limit).await
    }

    async fn parked(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Parked>, BackendError> {
        self.inner.parked(generation, slots, after, limit).await
    }

    async fn get(&self, account: AccountId) -> Result<Option<Balance>, QueryError> {
        self.inner.get(account).await
    }

    async fn search(&self, query: &BalanceQuery) -> Result<BalancePage, QueryError> {
        self.inner.search(query).await
    }
}
