//! An index that counts what it is asked, and does what the embedded one never does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::backends::Ports;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{
    Applied, ApplyError, Balance, BalanceIndex, BalancePage, BalanceQuery, Checkpoint, EmbeddedIndex, Generation,
    Generations, Loaded, Parked, Projected, PromoteError, QueryError, Seal, Sealing,
};
use shared::partition::{Partition, SlotRange};

use crate::away::Away;
use crate::fixture::Bank;

/// What an index does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never says which generations there are.
    Silent,
    /// It refuses the first document of every write.
    RefusesDocuments,
    /// It takes [`SLOW`] to find a document.
    Slow,
}

/// How long a slow index takes to find a document.
const SLOW: Duration = Duration::from_millis(660);

/// Why a document is refused.
pub(crate) const REFUSED: &str = "mapper_parsing_exception: failed to parse field [owner]";

/// The index of a bank, as a service sees it that is tested.
#[derive(Clone)]
pub(crate) struct RoughIndex {
    inner: EmbeddedIndex,
    asked: Arc<Asked>,
    fault: Option<Fault>,
}

#[derive(Default)]
struct Asked {
    gets: AtomicU64,
    loads: AtomicU64,
    generations: AtomicU64,
    checkpoints: AtomicU64,
    /// How many of the next reads of checkpoints fail.
    failing_checkpoints: AtomicU64,
}

impl RoughIndex {
    /// The same bank, asked through a service with a rough index.
    pub(crate) fn of(bank: Bank, fault: Option<Fault>) -> (Bank, Self) {
        let index = Self { inner: bank.index.clone(), asked: Arc::default(), fault };
        let backends = Ports { store: bank.store.clone(), log: Away, leases: Away, index: index.clone() };
        (bank.with_backends(backends), index)
    }

    /// How often a document was asked for as queries do, and how often what is known of accounts.
    pub(crate) fn gets_and_loads(&self) -> (u64, u64) {
        (self.asked.gets.load(Ordering::SeqCst), self.asked.loads.load(Ordering::SeqCst))
    }

    /// How often it was asked which generations there are, as whoever looks for parked accounts does.
    pub(crate) fn generations_asked(&self) -> u64 {
        self.asked.generations.load(Ordering::SeqCst)
    }

    /// How many checkpoints were asked for.
    pub(crate) fn checkpoints(&self) -> u64 {
        self.asked.checkpoints.load(Ordering::SeqCst)
    }

    pub(crate) fn fail_checkpoints(&self, reads: u64) {
        self.asked.failing_checkpoints.store(reads, Ordering::SeqCst);
    }

    pub(crate) fn still_fails(&self) -> bool {
        self.asked.failing_checkpoints.load(Ordering::SeqCst) > 0
    }
}

impl BalanceIndex for RoughIndex {
    async fn generations(&self) -> Result<Generations, BackendError> {
        self.asked.generations.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::RefusesDocuments | Fault::Slow) | None => self.inner.generations().await,
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
            (Some(Fault::RefusesDocuments), Some(balance)) => {
                Err(ApplyError::Refused { account: balance.id, reason: REFUSED.to_owned() })
            }
            (Some(Fault::RefusesDocuments), None) | (Some(Fault::Silent | Fault::Slow) | None, _) => {
                self.inner.apply(generation, projected).await
            }
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
        self.asked.checkpoints.fetch_add(1, Ordering::SeqCst);
        let failing = &self.asked.failing_checkpoints;
        let left = failing.load(Ordering::SeqCst);
        if left > 0 {
            failing.store(left - 1, Ordering::SeqCst);
            return Err(BackendError::not_done("checkpoint", "refused by the test"));
        }
        self.inner.checkpoint(generation, partition).await
    }

    async fn load(&self, generation: Generation, accounts: &[AccountId]) -> Result<Vec<Loaded>, BackendError> {
        self.asked.loads.fetch_add(1, Ordering::SeqCst);
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
        self.asked.gets.fetch_add(1, Ordering::SeqCst);
        if self.fault == Some(Fault::Slow) {
            tokio::time::sleep(SLOW).await;
        }
        self.inner.get(account).await
    }

    async fn search(&self, query: &BalanceQuery) -> Result<BalancePage, QueryError> {
        self.inner.search(query).await
    }
}
