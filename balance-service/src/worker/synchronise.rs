//! Bringing an existing generation up to date with the store: compare heads, refill what is behind.

use metrics::counter;
use shared::backends::Backends;
use shared::id::AccountId;
use shared::index::Phase;
use shared::log::Extent;
use shared::telemetry::metric::{AHEAD_OF_STORE, SYNCHRONISED};
use tracing::{info, warn};

use super::{Stopped, Worker, WorkerError};
use crate::fold::projected;
use crate::pages::{IndexVersions, Pair, Pairs, StoreHeads};
use crate::refill::{load_foldings, refill};

/// How many accounts are filled in one write.
const ACCOUNTS_AT_ONCE: usize = 500;

/// What a comparison of heads has found and refilled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refilled {
    /// Accounts that were behind and no longer are.
    accounts: u64,
    /// Accounts whose document is at a version that the store does not have.
    ahead: u64,
}

impl<B: Backends> Worker<B> {
    /// Refills everything that is behind, then goes live at the noted end of the log.
    pub(super) async fn synchronise(&self, end: &Extent, replayed: u64) -> Result<(), Stopped> {
        let refilled = refill_behind(self).await?;
        self.note(self.checkpoint(end.incarnation.clone(), end.last, Phase::Live { replayed })).await?;
        info!(generation = %self.generation, partition = %self.partition, accounts = refilled.accounts,
            "worker is synchronised with the store");
        counter!(SYNCHRONISED.name, "partition" => self.partition.to_string()).increment(1);
        counter!(AHEAD_OF_STORE.name, "partition" => self.partition.to_string()).increment(refilled.ahead);
        Ok(())
    }
}

/// Compares the heads of all streams of the partition with the documents and refills those that are behind.
async fn refill_behind<B: Backends>(worker: &Worker<B>) -> Result<Refilled, WorkerError> {
    let mut pairs = compare(worker, None);
    let mut refilled = Refilled::default();
    loop {
        let note_ahead = |pair: Pair| {
            warn!(account = %pair.account, index = %pair.found, store = %pair.wanted, "document is ahead of the store");
            refilled.ahead += 1;
        };
        let behind = pairs.next_behind(ACCOUNTS_AT_ONCE, note_ahead).await?;
        if behind.is_empty() {
            return Ok(refilled);
        }
        let accounts: Vec<AccountId> = behind.iter().map(|pair| pair.account).collect();
        refilled.accounts += fill(worker, &accounts).await?;
    }
}

/// The heads of the partition's streams beside the versions of its documents, starting after an account.
pub(super) fn compare<B: Backends>(
    worker: &Worker<B>,
    after: Option<AccountId>,
) -> Pairs<StoreHeads<'_, B::Store>, IndexVersions<'_, B::Index>> {
    Pairs::after(
        StoreHeads::new(worker.backends.store(), worker.slots),
        IndexVersions::new(worker.backends.index(), worker.generation, worker.slots),
        after,
    )
}

/// Folds everything the store holds of these accounts and writes what is new; returns how many documents that was.
pub(super) async fn fill<B: Backends>(worker: &Worker<B>, accounts: &[AccountId]) -> Result<u64, WorkerError> {
    let mut foldings = load_foldings(worker.backends.index(), worker.generation, accounts).await?;
    refill(worker.backends.store(), &mut foldings).await?;
    let mut projected = projected(foldings.into_values(), worker.clock.now());
    let filled = projected.balances.len() as u64;
    worker.write(&mut projected).await?;
    Ok(filled)
}
