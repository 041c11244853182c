//! The index in Elasticsearch, version 8, for queries of the bank, of Kibana and of anybody's `curl`.
//!
//! Queries go to one alias, such as `balance`, over one index `balance-000001`, one document for an account. Beside it
//! stands a hidden index `balance-000001-work` with the checkpoints and the parked accounts of that generation.
//!
//! The laws of [the index](super) are kept in these ways:
//!
//! - How X1 is kept: by three calls, one after the other, for the documents, the parked accounts and the checkpoint.
//!   Each is on disk when it is answered.
//! - How X2 is kept: the external version of a document is the account's version, so Elasticsearch skips what is equal
//!   or lower. The answer "conflict" means "stale" and is no failure.
//! - How X3 is kept: the external version of a checkpoint is its epoch, and an equal one is taken. A worker that lost
//!   its lease is told so by its first checkpoint; the documents beside it were written all the same, or skipped, which
//!   is harmless (law X2). A checkpoint that comes late under the same epoch can put the place back, never forward.
//! - How X4 is kept: an alias has at most one write index, and `promote` makes the new generation the write index. So
//!   the one call that turns the queries is refused while another generation is active, also when two jobs call it at
//!   once.
//! - How X5 is kept: writes go through an alias of their own, `balance-000001-open`. A seal takes it away and puts the
//!   alias `balance-000001-sealed-by-<seal>` in its place, in one comparing call; then a write block waits for the
//!   writes that had come through before.
//! - How X6 is kept: a write names the alias and asks that it be one, so it does not make an index again that is gone,
//!   whatever the cluster's `action.auto_create_index` says.
//!
//! What Elasticsearch compares and sets in one step is a change of aliases: taking one away that must be there refuses
//! the whole call if it is not. So what a generation is stands in its aliases (open or sealed, idle or active or being
//! discarded), and `promote` compares the active generation, its seal, the idle new one and the new state in one call.
//! `discard` takes the alias `balance-000001-idle` away first, so that what it deletes cannot become active meanwhile.
//!
//! The write block of a seal cannot be set or lifted under a condition:
//!
//! - The lifting of a seal that is over may come late, when the next seal is there already. That seal's alias keeps
//!   refusing writes; only a write that entered Elasticsearch before the seal, and was delayed for as long, could still
//!   pass. So `promote` asks whether the block stands, and the switch begins again with the seal if it does not.
//! - A block that comes so late that no seal is left makes writes fail, which loses nothing and is loud: the failure
//!   names the remedy, and the next seal takes the block along when it is lifted.
//!
//! A seal stops documents alone. Checkpoints and parked accounts are written through another alias, since what they
//! say stays true under a seal, and a batch writes its documents before them.
//!
//! A number is drawn, then the index of documents is made, then the hidden one. If that ends in between, the number is
//! not used again, and what was made is a generation that no job knows, which is discarded. The next `promote` removes
//! what stood beside documents that somebody deleted by hand. If somebody deletes the hidden half alone, the next write
//! makes it again, and the worker begins again from the store.
//!
//! What stands under the alias's name and is no generation answers no queries. A plain index, made by hand before the
//! first start, is replaced by the alias in the very call that promotes the first generation, if it is empty or its
//! fields are the bank's; it is never filled in place, since queries would see half a projection, under versions that
//! are not the bank's. An index with documents of somebody else is left alone, and told in every attempt to build.
//!
//! A search is up to a second behind, everything asked by id is not. Only the official driver speaks to Elasticsearch;
//! it has no time limits of its own, so one is set for every call. What a call came to when no answer came is unknown,
//! and every call may be repeated.

mod answer;
mod bulk;
mod check;
mod connect;
#[cfg(test)]
mod fake;
mod generation;
mod layout;
mod names;
mod promote;
mod read;
mod seal;
#[cfg(test)]
mod tests;
mod together;
mod write;

use std::fmt;
use std::sync::Arc;

use elasticsearch::Elasticsearch;
use tokio::sync::Semaphore;

use self::answer::Failure;
use self::bulk::{BULKS_AT_ONCE, LARGE_AT_ONCE, Over};
pub use self::connect::{ElasticOpenError, ElasticOptions, client};
use self::names::Names;
use self::together::Together;
use super::{
    Applied, ApplyError, Balance, BalanceIndex, BalancePage, BalanceQuery, Checkpoint, Generation, Generations, Loaded,
    Parked, Projected, PromoteError, QueryError, Seal,
};
use crate::config::Namespace;
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::AccountId;
use crate::partition::{Partition, SlotRange};

/// The index of a bank in Elasticsearch. Clones share its connections.
#[derive(Clone)]
pub struct ElasticIndex {
    client: Elasticsearch,
    names: Arc<Names>,
    bulks: Arc<Bulks>,
}

/// The bulks that a process has under way.
struct Bulks {
    places: Semaphore,
    /// Those of them that a large bulk may have.
    large: Semaphore,
    /// Few documents at a time.
    documents: Together,
    /// Checkpoints and parked accounts.
    work: Together,
}

impl Default for Bulks {
    fn default() -> Self {
        Self {
            places: Semaphore::new(BULKS_AT_ONCE),
            large: Semaphore::new(LARGE_AT_ONCE),
            documents: Together::default(),
            work: Together::default(),
        }
    }
}

/// The driver would show the password of the URL.
impl fmt::Debug for ElasticIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticIndex").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ElasticIndex {
    /// The index of this bank on the server of the URL. Nothing is sent yet: a server that is down now may be up later.
    ///
    /// # Errors
    /// [`ElasticOpenError`] if the URL is none or not of HTTP, or if the certificates to trust are none.
    pub fn new(url: &str, namespace: &Namespace, options: &ElasticOptions) -> Result<Self, ElasticOpenError> {
        Ok(Self {
            client: connect::client(url, options)?,
            names: Arc::new(Names::of(namespace)),
            bulks: Arc::default(),
        })
    }
}

impl BalanceIndex for ElasticIndex {
    async fn generations(&self) -> Result<Generations, BackendError> {
        self.all_generations().await.map_err(|failure| failure.backend("generations"))
    }

    async fn create(&self) -> Result<Generation, BackendError> {
        self.create_generation().await
    }

    async fn prepare(&self, generation: Generation) -> Result<(), ApplyError> {
        self.prepare_generation(generation).await
    }

    async fn promote(&self, generation: Generation, expected: Option<(Generation, Seal)>) -> Result<(), PromoteError> {
        self.promote_generation(generation, expected).await
    }

    async fn seal(&self, generation: Generation, seal: Seal) -> Result<(), ApplyError> {
        self.seal_generation(generation, seal).await
    }

    async fn unseal(&self, generation: Generation, seal: Seal) -> Result<(), BackendError> {
        self.unseal_generation(generation, seal).await.map_err(|failure| failure.backend("unseal"))
    }

    async fn discard(&self, generation: Generation) -> Result<(), BackendError> {
        self.discard_generation(generation).await.map_err(|failure| failure.backend("discard"))
    }

    async fn apply(&self, generation: Generation, projected: &Projected) -> Result<Applied, ApplyError> {
        let Projected { balances, parked, checkpoint } = projected;
        let applied = self.write_documents("apply", generation, balances, Over::Older).await?;
        self.park(generation, parked).await?;
        if let Some(checkpoint) = checkpoint {
            self.note(generation, checkpoint.clone()).await?;
        }
        Ok(applied)
    }

    async fn repair(&self, generation: Generation, balances: Vec<Balance>) -> Result<(), ApplyError> {
        self.write_documents("repair", generation, &balances, Over::OlderOrEqual).await.map(|_| ())
    }

    async fn unpark(&self, generation: Generation, accounts: &[AccountId]) -> Result<(), ApplyError> {
        self.unpark_accounts(generation, accounts).await
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        partition: Partition,
    ) -> Result<Option<Checkpoint>, BackendError> {
        self.stored_checkpoint(generation, partition).await.map_err(|failure| failure.backend("checkpoint"))
    }

    async fn load(&self, generation: Generation, accounts: &[AccountId]) -> Result<Vec<Loaded>, BackendError> {
        self.load_accounts(generation, accounts).await.map_err(|failure| failure.backend("load"))
    }

    async fn versions(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        let listed: Result<_, Failure> = self.list_versions(generation, slots, after, limit).await;
        listed.map_err(|failure| failure.backend("versions"))
    }

    async fn parked(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Parked>, BackendError> {
        self.list_parked(generation, slots, after, limit).await.map_err(|failure| failure.backend("parked"))
    }

    async fn get(&self, account: AccountId) -> Result<Option<Balance>, QueryError> {
        self.get_balance(account).await
    }

    async fn search(&self, query: &BalanceQuery) -> Result<BalancePage, QueryError> {
        self.search_balances(query).await
    }
}
