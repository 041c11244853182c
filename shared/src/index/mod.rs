//! The balance index: the projection that clients query, in generations of which one is active.
//!
//! X1  A checkpoint is never ahead of the balances and parked accounts that it covers.
//! X2  A balance never goes back to a lower version, no matter who writes: an equal or lower version is skipped.
//! X3  A checkpoint of a lower epoch than the stored one is refused.
//! X4  Queries see exactly one generation, or report that there is none.
//! X5  Once a [`Sealing`] is acknowledged, no balance of the generation changes, no matter who writes, until the same
//!     [`Seal`] is lifted or set again; and a promotion on top of this sealing means that until then, nothing has.
//!     Sealing is exclusive: sealing a generation that is under another seal is refused.
//! X6  A discarded generation stays gone: a late write does not bring it back.
//!
//! Every write of a balance is a whole document, and a document at version k is the fold of events 1 ..= k. So
//! whichever writer wins, the document is the fold of a prefix of its stream.

mod any;
mod balance;
mod checkpoint;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod cursor;
#[cfg(feature = "elasticsearch")]
mod elastic;
mod embedded;
mod query;

use std::future::Future;

pub use any::AnyIndex;
pub use balance::{AccountStatus, Balance};
pub use checkpoint::{Checkpoint, Phase};
#[cfg(feature = "elasticsearch")]
pub use elastic::{ElasticIndex, ElasticOpenError, ElasticOptions, client as elastic_client};
pub use embedded::EmbeddedIndex;
pub use query::{BalancePage, BalanceQuery, Cursor, PAGE_DEFAULT, PAGE_MAX, Sort};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::coordinate::{Epoch, Version};
use crate::error::BackendError;
use crate::id::AccountId;
use crate::partition::{Partition, SlotRange};

/// One build of the projection; printed as in the name of its index, `000001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// What exists in the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generations {
    /// The one that answers queries.
    pub active: Option<Generation>,
    /// All of them, in order, the active one included.
    pub all: Vec<Generation>,
    /// Those that refuse writes, in order, each with the seal it is under.
    pub sealed: Vec<(Generation, Seal)>,
}

/// Who sealed a generation: the job that switches. A late call of a finished job cannot lift another job's seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seal(pub uuid::Uuid);

/// One time that a generation was sealed, as [`BalanceIndex::seal`] reports it. Sealing again under the same seal is a
/// sealing of its own if a balance could have changed in between, and whoever sealed before can then no longer promote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sealing {
    /// Under which seal.
    pub seal: Seal,
    /// Tells it from other sealings under the same seal; nil where sealing again lets nothing through.
    pub id: uuid::Uuid,
}

/// An account whose next event cannot be folded. Its later events wait; other accounts do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The account.
    pub account: AccountId,
    /// The first version that cannot be folded; the document stays at the version before.
    pub at: Version,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What the index knows of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Its document.
    pub balance: Option<Balance>,
    /// Why it does not advance.
    pub parked: Option<Parked>,
}

impl Loaded {
    /// The version of the document.
    #[must_use]
    pub fn version(&self) -> Version {
        Balance::version_of(self.balance.as_ref())
    }

    /// The first version that cannot be folded. An entry at a version that the document has reached does not count:
    /// that event could be folded after all, by a later release, or before the entry was removed.
    #[must_use]
    pub fn parked_at(&self) -> Option<Version> {
        self.parked.as_ref().map(|parked| parked.at).filter(|at| *at > self.version())
    }

    /// Whether there is an entry that does not count.
    #[must_use]
    pub fn has_passed_entry(&self) -> bool {
        self.parked.is_some() && self.parked_at().is_none()
    }

    /// How far the document can come when the stream is at `head`: to the head, or to where the account is parked.
    #[must_use]
    pub fn reachable(&self, head: Version) -> Version {
        self.parked_at().map_or(head, |at| head.min(at.before()))
    }
}

/// What a worker writes at once: documents, parked accounts, then the checkpoint that covers them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projected {
    /// Whole documents, at most one for an account.
    pub balances: Vec<Balance>,
    /// Accounts that do not advance from here. An account that is already parked keeps its first entry, unless its
    /// document has passed it: an entry that does not count ([`Loaded::has_passed_entry`]) is replaced.
    pub parked: Vec<Parked>,
    /// How far the worker has come when all of that is written.
    pub checkpoint: Option<Checkpoint>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Documents that were written.
    pub written: usize,
    /// Documents that were skipped because the index had an equal or higher version.
    pub stale: usize,
}

/// Why a write was refused, or may have been.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another worker with a higher epoch owns the partition: stop.
    #[error("the partition's checkpoint belongs to {current}")]
    Fenced {
        /// The epoch of the stored checkpoint.
        current: Epoch,
    },
    /// The generation is sealed: wait until it is unsealed or no longer needed.
    #[error("generation {0} is sealed")]
    Sealed(Generation),
    /// The generation does not exist, or no longer does.
    #[error("generation {0} does not exist")]
    Gone(Generation),
    /// A document can never be written as it is, as when the schema refuses it: park its account.
    #[error("the index refuses the document of {account}: {reason}")]
    Refused {
        /// Whose document.
        account: AccountId,
        /// Why.
        reason: String,
    },
    /// The index failed. Writing the same again is harmless (law X2).
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why a generation was not promoted, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The active generation is not the one the caller expects, or not under the caller's seal; nothing changed.
    #[error("the active generation is {0:?}, or is not sealed by this job")]
    Moved(Option<Generation>),
    /// The generation to promote does not exist.
    #[error("generation {0} does not exist")]
    Gone(Generation),
    /// The index failed: ask which generation is active.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No generation is active yet: the projection is being built.
    #[error("the projection does not exist yet; a balance service builds it")]
    NoGeneration,
    /// The cursor was not made by this index, or for another order.
    #[error("the cursor does not belong to this query; start again without it")]
    BadCursor,
    /// The index failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// The port that holds the projection; see the laws X1 to X6 of this module.
pub trait BalanceIndex: Clone + Send + Sync + 'static {
    /// What exists.
    fn generations(&self) -> impl Future<Output = Result<Generations, BackendError>> + Send;

    /// Creates an empty generation with a number that was never used before.
    fn create(&self) -> impl Future<Output = Result<Generation, BackendError>> + Send;

    /// Makes a filled generation ready to answer queries fast, so that promoting it takes no time. Promoting one that
    /// was not prepared works too. Repeating it is harmless.
    fn prepare(&self, generation: Generation) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Switches the queries to a generation, in one step, if `expected` is active and still as this sealing left it, so
    /// that a late call of a finished job changes nothing (law X5). `None` expects that no generation is active.
    fn promote(
        &self,
        generation: Generation,
        expected: Option<(Generation, Sealing)>,
    ) -> impl Future<Output = Result<(), PromoteError>> + Send;

    /// Refuses writes to a generation from now on (law X5). It may be repeated with the same seal, by a conductor that
    /// takes over.
    fn seal(&self, generation: Generation, seal: Seal) -> impl Future<Output = Result<Sealing, ApplyError>> + Send;

    /// Lifts the seal, so that the generation takes writes again; does nothing if it is not under this seal.
    fn unseal(&self, generation: Generation, seal: Seal) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Removes a generation that is not active. Repeating it is harmless; the active one is left alone.
    fn discard(&self, generation: Generation) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Writes a batch (laws X1 to X3, X5, X6).
    fn apply(
        &self,
        generation: Generation,
        projected: &Projected,
    ) -> impl Future<Output = Result<Applied, ApplyError>> + Send;

    /// Overwrites documents that hold a wrong value at the right version; only for the verifier's repair.
    fn repair(
        &self,
        generation: Generation,
        balances: Vec<Balance>,
    ) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Lets parked accounts advance again.
    fn unpark(
        &self,
        generation: Generation,
        accounts: &[AccountId],
    ) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// The partition's checkpoint in a generation.
    fn checkpoint(
        &self,
        generation: Generation,
        partition: Partition,
    ) -> impl Future<Output = Result<Option<Checkpoint>, BackendError>> + Send;

    /// What a generation knows of these accounts, in the order given, as of the last acknowledged write.
    fn load(
        &self,
        generation: Generation,
        accounts: &[AccountId],
    ) -> impl Future<Output = Result<Vec<Loaded>, BackendError>> + Send;

    /// A page of the documents of a slot range with their versions, ordered by (slot, account). A page with fewer than
    /// `limit` documents is the last.
    fn versions(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(AccountId, Version)>, BackendError>> + Send;

    /// The parked accounts of a slot range, ordered by account, at most `limit`. A page with fewer is the last.
    fn parked(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Parked>, BackendError>> + Send;

    /// One document of the active generation, as of the last acknowledged write.
    fn get(&self, account: AccountId) -> impl Future<Output = Result<Option<Balance>, QueryError>> + Send;

    /// A page of documents of the active generation.
    fn search(&self, query: &BalanceQuery) -> impl Future<Output = Result<BalancePage, QueryError>> + Send;
}
