//! The index in Elasticsearch, version 8, for queries by the bank, by Kibana and by plain `curl`.
//!
//! Queries go to one alias, such as `balance`, of one index, such as `balance-000001`, with one document per account.
//! Beside it, a hidden index `balance-000001-work` holds the checkpoints and the parked accounts of that generation.
//!
//! How the laws of [the index](super) are kept:
//!
//! - X1: three calls, one after the other, write the documents, the parked accounts and the checkpoint. Each is on disk
//!   when it is acknowledged.
//! - X2: the external version of a document is the account's version, so Elasticsearch skips an equal or lower one. Its
//!   answer "conflict" means "stale" and is no failure, unless somebody edited the document by hand ([`edited`]).
//! - X3: the external version of a checkpoint is its epoch, and an equal one is accepted. A worker that lost its lease
//!   learns of it from its first checkpoint; the documents of that batch were written all the same, or skipped, which
//!   is harmless (law X2). A late checkpoint of the same epoch can move the stored offset back, never forward.
//! - X4: an alias has at most one write index, and `promote` makes the new generation the write index. So the one call
//!   that switches the queries is refused while another generation is active, even if two jobs make it at once.
//! - X5: writes go through a separate alias, `balance-000001-open`. A seal replaces it by the alias
//!   `balance-000001-sealed-by-<seal>.<id>` in one compare-and-set call; then a write block waits for the writes that
//!   had already come through. Sealing again replaces the id in the same way before it touches the block.
//! - X6: a write requires that its target be an alias, so it never creates a deleted index again, whatever the
//!   cluster's `action.auto_create_index` says.
//!
//! Elasticsearch can compare and set in one step only by changing aliases: if an alias that a call removes must exist
//! and does not, the whole call is refused. So aliases hold the state of a generation (open or sealed, idle or active
//! or being discarded), and `promote` compares the active generation, its sealing and the idle new one, and sets the
//! new state, in one call. `discard` first removes the alias `balance-000001-idle`, so that what it deletes cannot
//! become active meanwhile.
//!
//! The write block of a seal cannot be set or lifted conditionally:
//!
//! - The block of a finished seal may be lifted late, when the next seal is already set. That seal's alias keeps
//!   refusing writes; only a write that entered Elasticsearch before the seal and was delayed for that long could still
//!   pass. So `promote` checks that the block is set, and if it is not, the switch starts again with the seal.
//! - A block set so late that no seal is left makes writes fail, which loses nothing and does not go unnoticed: the
//!   failure names the remedy, and lifting the next seal removes the block too.
//! - Sealing again under the same seal, as a conductor does that takes over a switch, lifts the block and sets it anew,
//!   since a block that is set already is not waited for. A write that was delayed since before the first seal could
//!   pass in between, after the first conductor has listed the versions. That one may have been frozen and promote all
//!   the same, and that `promote` finds the block set tells nothing: it is set anew. Therefore each sealing has an id
//!   of its own in its alias, which the call that promotes compares.
//!
//! A seal stops only documents. Checkpoints and parked accounts are written through another alias, since what they say
//! stays true under a seal, and a batch writes its documents before them.
//!
//! Creating a generation draws a number, then creates the index of documents, then the hidden one. If that is
//! interrupted, the number is not used again, and what was created is a generation unknown to any job, which is
//! discarded. If the documents are deleted by hand, the next `promote` removes what remains beside them. If only the
//! hidden index is deleted, the next write creates it again, and the worker starts over from the store.
//!
//! An index that has the alias's name but is no generation answers no queries. A plain index, created by hand before
//! the first start, is replaced by the alias in the very call that promotes the first generation, if it is empty or its
//! fields are the bank's; it is never filled in place, since queries would see half a projection, at versions that are
//! not the bank's. An index with foreign documents is left alone, and reported in every attempt to build.
//!
//! A search may be up to a second late; reads by id are not. Only the official driver speaks to Elasticsearch; it has
//! no time limits of its own, so one is set for every call. Without an answer the outcome of a write is unknown, a read
//! had no effect, and every call may be repeated.

mod answer;
mod bulk;
mod check;
mod connect;
mod edited;
#[cfg(test)]
mod fake;
mod generation;
mod layout;
#[cfg(test)]
mod logged;
mod names;
mod promote;
mod read;
mod seal;
mod search;
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
    Parked, Projected, PromoteError, QueryError, Seal, Sealing,
};
use crate::config::Namespace;
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::AccountId;
use crate::partition::{Partition, SlotRange};
use crate::telemetry::Seldom;

/// The index of a bank in Elasticsearch. Clones share its connections.
#[derive(Clone)]
pub struct ElasticIndex {
    client: Elasticsearch,
    names: Arc<Names>,
    bulks: Arc<Bulks>,
    edited: Arc<Seldom>,
}

/// The bulks that a process has in flight.
struct Bulks {
    places: Semaphore,
    /// The places that large bulks may take.
    large: Semaphore,
    /// Small bulks of documents.
    documents: Together,
    /// Small bulks of checkpoints and parked accounts.
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

/// Without the driver, which would show the password of the URL.
impl fmt::Debug for ElasticIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticIndex").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ElasticIndex {
    /// The index of this bank on the server at the URL. Nothing is sent yet: a server that is down now may be up later.
    ///
    /// # Errors
    /// [`ElasticOpenError`] if the URL is invalid or not an HTTP one, or if the certificates to trust are invalid.
    pub fn new(url: &str, namespace: &Namespace, options: &ElasticOptions) -> Result<Self, ElasticOpenError> {
        Ok(Self {
            client: connect::client(url, options)?,
            names: Arc::new(Names::of(namespace)),
            bulks: Arc::default(),
            edited: Arc::default(),
        })
    }
}

impl BalanceIndex for ElasticIndex {
    async fn generations(&self) -> Result<Generations, BackendError> {
        self.all_generations().await.map_err(|failure| failure.of_read("generations"))
    }

    async fn create(&self) -> Result<Generation, BackendError> {
        self.create_generation().await
    }

    async fn prepare(&self, generation: Generation) -> Result<(), ApplyError> {
        self.prepare_generation(generation).await
    }

    async fn promote(
        &self,
        generation: Generation,
        expected: Option<(Generation, Sealing)>,
    ) -> Result<(), PromoteError> {
        self.promote_generation(generation, expected).await
    }

    async fn seal(&self, generation: Generation, seal: Seal) -> Result<Sealing, ApplyError> {
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
        self.stored_checkpoint(generation, partition).await.map_err(|failure| failure.of_read("checkpoint"))
    }

    async fn load(&self, generation: Generation, accounts: &[AccountId]) -> Result<Vec<Loaded>, BackendError> {
        self.load_accounts(generation, accounts).await.map_err(|failure| failure.of_read("load"))
    }

    async fn versions(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        let listed: Result<_, Failure> = self.list_versions(generation, slots, after, limit).await;
        listed.map_err(|failure| failure.of_read("versions"))
    }

    async fn parked(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Parked>, BackendError> {
        self.list_parked(generation, slots, after, limit).await.map_err(|failure| failure.of_read("parked"))
    }

    async fn get(&self, account: AccountId) -> Result<Option<Balance>, QueryError> {
        self.get_balance(account).await
    }

    async fn search(&self, query: &BalanceQuery) -> Result<BalancePage, QueryError> {
        self.search_balances(query).await
    }
}
