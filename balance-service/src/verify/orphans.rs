//! Looks for documents of accounts that the store does not list.

use shared::backends::Backends;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::retry::Backoff;

use super::suspects::{DocumentSuspects, SUSPECTS_MAX};
use super::walk::Comparison;
use crate::pages::{GivingWay, IndexVersions, Pair, Pairs, StoreHeads};

/// The heads of the store beside the documents of the index.
type HeadsAndDocuments<'a, B> = Pairs<
    GivingWay<'a, StoreHeads<'a, <B as Backends>::Store>>,
    GivingWay<'a, IndexVersions<'a, <B as Backends>::Index>>,
>;

/// A walk through the documents of a partition beside the heads of the store.
pub(super) struct Orphans<'a, B: Backends> {
    pairs: HeadsAndDocuments<'a, B>,
    done: bool,
}

impl<'a, B: Backends> Orphans<'a, B> {
    pub(super) fn new(comparison: &Comparison<'a, B>) -> Self {
        let Comparison { backends, generation, slots, right_of_way, .. } = *comparison;
        let heads = StoreHeads::new(backends.store(), slots);
        let documents = IndexVersions::new(backends.index(), generation, slots);
        let pairs = Pairs::new(GivingWay::new(heads, right_of_way), GivingWay::new(documents, right_of_way));
        Self { pairs, done: false }
    }

    /// Takes documents whose account the store did not list, until there are enough suspects or no documents left. An
    /// account that was opened meanwhile is among them.
    pub(super) async fn collect(&mut self, suspects: &mut DocumentSuspects) -> Result<(), BackendError> {
        while !self.done && suspects.len() < SUSPECTS_MAX {
            match self.next_patiently().await? {
                Some(pair) if pair.wanted == Version::EMPTY => _ = suspects.entry(pair.account).or_insert(pair.wanted),
                Some(_) => {}
                None => self.done = true,
            }
        }
        Ok(())
    }

    /// The next account, even if store or index is unavailable for some seconds. A page that was read stays read.
    async fn next_patiently(&mut self) -> Result<Option<Pair>, BackendError> {
        let mut backoff = Backoff::default();
        loop {
            match self.pairs.next().await {
                Ok(pair) => return Ok(pair),
                Err(failure) => backoff.wait(failure).await?,
            }
        }
    }

    /// Whether there are no documents left.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }
}
