//! The index selected by the settings.

#[cfg(feature = "elasticsearch")]
use super::elastic::ElasticIndex;
use super::{
    Applied, ApplyError, Balance, BalanceIndex, BalancePage, BalanceQuery, Checkpoint, EmbeddedIndex, Generation,
    Generations, Loaded, Parked, Projected, PromoteError, QueryError, Seal, Sealing,
};
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::AccountId;
use crate::partition::{Partition, SlotRange};

/// One of the backends of this port.
#[derive(Clone, Debug)]
pub enum AnyIndex {
    /// A file of the data folder.
    Embedded(EmbeddedIndex),
    /// Indices of an Elasticsearch cluster.
    #[cfg(feature = "elasticsearch")]
    Elastic(ElasticIndex),
}

macro_rules! each {
    ($any:expr, $backend:ident => $call:expr) => {
        match $any {
            Self::Embedded($backend) => $call,
            #[cfg(feature = "elasticsearch")]
            Self::Elastic($backend) => $call,
        }
    };
}

impl BalanceIndex for AnyIndex {
    async fn generations(&self) -> Result<Generations, BackendError> {
        each!(self, index => index.generations().await)
    }

    async fn create(&self) -> Result<Generation, BackendError> {
        each!(self, index => index.create().await)
    }

    async fn prepare(&self, generation: Generation) -> Result<(), ApplyError> {
        each!(self, index => index.prepare(generation).await)
    }

    async fn promote(
        &self,
        generation: Generation,
        expected: Option<(Generation, Sealing)>,
    ) -> Result<(), PromoteError> {
        each!(self, index => index.promote(generation, expected).await)
    }

    async fn seal(&self, generation: Generation, seal: Seal) -> Result<Sealing, ApplyError> {
        each!(self, index => index.seal(generation, seal).await)
    }

    async fn unseal(&self, generation: Generation, seal: Seal) -> Result<(), BackendError> {
        each!(self, index => index.unseal(generation, seal).await)
    }

    async fn discard(&self, generation: Generation) -> Result<(), BackendError> {
        each!(self, index => index.discard(generation).await)
    }

    async fn apply(&self, generation: Generation, projected: &Projected) -> Result<Applied, ApplyError> {
        each!(self, index => index.apply(generation, projected).await)
    }

    async fn repair(&self, generation: Generation, balances: Vec<Balance>) -> Result<(), ApplyError> {
        each!(self, index => index.repair(generation, balances).await)
    }

    async fn unpark(&self, generation: Generation, accounts: &[AccountId]) -> Result<(), ApplyError> {
        each!(self, index => index.unpark(generation, accounts).await)
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        partition: Partition,
    ) -> Result<Option<Checkpoint>, BackendError> {
        each!(self, index => index.checkpoint(generation, partition).await)
    }

    async fn load(&self, generation: Generation, accounts: &[AccountId]) -> Result<Vec<Loaded>, BackendError> {
        each!(self, index => index.load(generation, accounts).await)
    }

    async fn versions(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        each!(self, index => index.versions(generation, slots, after, limit).await)
    }

    async fn parked(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Parked>, BackendError> {
        each!(self, index => index.parked(generation, slots, after, limit).await)
    }

    async fn get(&self, account: AccountId) -> Result<Option<Balance>, QueryError> {
        each!(self, index => index.get(account).await)
    }

    async fn search(&self, query: &BalanceQuery) -> Result<BalancePage, QueryError> {
        each!(self, index => index.search(query).await)
    }
}
