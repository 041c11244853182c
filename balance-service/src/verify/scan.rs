//! Folds every stream of a partition once and compares each document with the fold.

use std::collections::BTreeMap;

use shared::backends::Backends;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::event::{Recorded, StreamAfter};
use shared::id::AccountId;
use shared::index::Loaded;
use shared::partition::SlotRange;
use shared::retry::Backoff;
use shared::store::{EventStore, ScanPage};

use super::compare::compare;
use super::report::Verification;
use super::suspects::{DocumentSuspects, SUSPECTS_MAX};
use super::walk::Comparison;
use crate::fold::Folding;
use crate::stint::Stint;

/// How many events are read from the store at once.
const SCAN_EVENTS: usize = 8_192;

/// A walk through the streams of a partition, each beside its document.
pub(super) struct Scan<'a, B> {
    comparison: &'a Comparison<'a, B>,
    open: Option<Checked>,
    after: Option<StreamAfter>,
    stint: Stint,
    done: bool,
}

impl<'a, B: Backends> Scan<'a, B> {
    pub(super) const fn new(comparison: &'a Comparison<'a, B>) -> Self {
        Self { comparison, open: None, after: None, stint: Stint::new(), done: false }
    }

    /// Folds streams and compares their documents until there are enough suspects, or no streams left.
    pub(super) async fn collect(
        &mut self,
        suspects: &mut DocumentSuspects,
        verification: &mut Verification,
    ) -> Result<(), BackendError> {
        let Comparison { backends, slots, right_of_way, .. } = *self.comparison;
        while !self.done && suspects.len() < SUSPECTS_MAX {
            let _permit = right_of_way.page().await;
            let page = scan_patiently(backends.store(), slots, self.after).await?;
            let mut documents = self.load_new(&page.records).await?;
            for recorded in &page.records {
                self.stint.next().await;
                if self.open.as_ref().is_none_or(|open| open.stream != recorded.stream) {
                    self.finish(suspects, verification);
                }
                let checked = self.open.get_or_insert_with(|| {
                    Checked::new(recorded.stream, documents.remove(&recorded.stream).unwrap_or_default())
                });
                checked.take(recorded, verification);
            }
            self.after = page.next;
            if self.after.is_none() {
                self.finish(suspects, verification);
                self.done = true;
            }
        }
        Ok(())
    }

    /// The documents of the streams that begin in these records.
    async fn load_new(&self, records: &[Recorded]) -> Result<BTreeMap<AccountId, Loaded>, BackendError> {
        let mut streams: Vec<AccountId> = records.iter().map(|recorded| recorded.stream).collect();
        streams.dedup();
        streams.retain(|stream| self.open.as_ref().is_none_or(|open| open.stream != *stream));
        let loaded = self.comparison.load_patiently(&streams).await?;
        Ok(streams.into_iter().zip(loaded).collect())
    }

    /// Counts the stream that has ended, or keeps it to be looked at again.
    fn finish(&mut self, suspects: &mut DocumentSuspects, verification: &mut Verification) {
        let Some(checked) = self.open.take() else { return };
        self.comparison.progress.one_more();
        if !checked.is_right() {
            suspects.insert(checked.stream, checked.head);
        } else if checked.document.parked_at().is_some() {
            verification.parked += 1;
        } else {
            verification.checked += 1;
        }
    }
}

/// A stream being scanned, beside its document.
struct Checked {
    stream: AccountId,
    document: Loaded,
    folding: Folding,
    head: Version,
    /// Whether the document equals the fold, once the fold has reached its version.
    equal: Option<bool>,
}

impl Checked {
    fn new(stream: AccountId, document: Loaded) -> Self {
        Self { stream, document, folding: Folding::new(stream, None), head: Version::EMPTY, equal: None }
    }

    /// Folds the events of a write up to the document's version, and compares once the fold has reached it.
    fn take(&mut self, recorded: &Recorded, verification: &mut Verification) {
        self.head = recorded.last_version();
        verification.events += u64::from(recorded.events.count);
        let Some(document) = self.document.balance.as_ref().filter(|_| self.equal.is_none()) else { return };
        self.folding.take_until(recorded, document.version);
        if let Some(fold) = self.folding.balance().filter(|fold| fold.version == document.version) {
            self.equal = Some(compare(fold, document).is_none());
        }
    }

    /// Whether the document is as far as it can be, and equals the fold of its events.
    fn is_right(&self) -> bool {
        let reached = self.document.version();
        reached == self.document.reachable(self.head) && self.equal.unwrap_or(reached == Version::EMPTY)
    }
}

/// The next page, even if the store is unavailable for some seconds: beginning again would read everything again.
async fn scan_patiently<S: EventStore>(
    store: &S,
    slots: SlotRange,
    after: Option<StreamAfter>,
) -> Result<ScanPage, BackendError> {
    let mut backoff = Backoff::default();
    loop {
        match store.scan(slots, after, SCAN_EVENTS).await {
            Ok(page) => return Ok(page),
            Err(failure) => backoff.wait(failure).await?,
        }
    }
}
