use std::collections::BTreeMap;

use shared::backends::Backends;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::event::Recorded;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Generation, Loaded};
use shared::partition::SlotRange;
use shared::store::EventStore;

use super::compare::compare;
use super::report::{Fault, Finding, Verification};
use crate::fold::Folding;
use crate::pages::{IndexVersions, Pairs, StoreHeads};

/// How many events are read from the store at once.
const SCAN_EVENTS: usize = 8_192;

/// Accounts that look wrong, with the version that a right document has reached.
pub(super) type Suspects = BTreeMap<AccountId, Version>;

/// Folds every stream of the slots and compares its document; answers what has to be looked at again.
pub(super) async fn scan<B: Backends>(
    backends: &B,
    generation: Generation,
    slots: SlotRange,
    verification: &mut Verification,
) -> Result<Suspects, BackendError> {
    let mut suspects = Suspects::new();
    let mut open: Option<Checked> = None;
    let mut after = None;
    loop {
        let page = backends.store().scan(slots, after, SCAN_EVENTS).await?;
        let mut documents = load_new(backends, generation, open.as_ref(), &page.records).await?;
        for recorded in &page.records {
            if open.as_ref().is_none_or(|open| open.stream != recorded.stream) {
                finish(open.take(), verification, &mut suspects);
            }
            let checked = open.get_or_insert_with(|| {
                Checked::new(recorded.stream, documents.remove(&recorded.stream).unwrap_or_default())
            });
            checked.take(recorded, verification);
        }
        after = page.next;
        if after.is_none() {
            finish(open, verification, &mut suspects);
            return Ok(suspects);
        }
    }
}

/// The documents of the streams that begin in these records.
async fn load_new<B: Backends>(
    backends: &B,
    generation: Generation,
    open: Option<&Checked>,
    records: &[Recorded],
) -> Result<BTreeMap<AccountId, Loaded>, BackendError> {
    let mut streams: Vec<AccountId> = records.iter().map(|recorded| recorded.stream).collect();
    streams.dedup();
    streams.retain(|stream| open.is_none_or(|open| open.stream != *stream));
    let loaded = backends.index().load(generation, &streams).await?;
    Ok(streams.into_iter().zip(loaded).collect())
}

/// A stream on its way through the scan, beside its document.
struct Checked {
    stream: AccountId,
    document: Loaded,
    folding: Folding,
    head: Version,
    compared: bool,
    finding: Option<Finding>,
}

impl Checked {
    fn new(stream: AccountId, document: Loaded) -> Self {
        Self {
            stream,
            document,
            folding: Folding::new(stream, None),
            head: Version::EMPTY,
            compared: false,
            finding: None,
        }
    }

    /// Folds a write, event by event as far as the document goes, and compares where the versions meet.
    fn take(&mut self, recorded: &Recorded, verification: &mut Verification) {
        self.head = recorded.last_version();
        verification.events += u64::from(recorded.events.count);
        let Some(document) = self.document.balance.as_ref().filter(|_| !self.compared) else { return };
        self.folding.take_until(recorded, document.version);
        if let Some(fold) = self.folding.balance().filter(|fold| fold.version == document.version) {
            self.compared = true;
            self.finding = compare(fold, document);
        }
    }
}

/// Counts a stream that has passed; one whose document is elsewhere than the head is looked at again.
fn finish(checked: Option<Checked>, verification: &mut Verification, suspects: &mut Suspects) {
    let Some(checked) = checked else { return };
    let reached = checked.document.balance.as_ref().map_or(Version::EMPTY, |balance| balance.version);
    let reachable = checked.document.reachable(checked.head);
    if let Some(finding) = checked.finding {
        verification.checked += 1;
        verification.add(finding);
    } else if reached != reachable {
        suspects.insert(checked.stream, checked.head);
    } else if checked.document.parked.is_some() {
        verification.parked += 1;
    } else if let Some((at, reason)) = checked.folding.poison() {
        // The document claims events that cannot be folded.
        let detail = format!("event {at} cannot be folded: {reason}");
        verification.checked += 1;
        verification.add(Finding { account: checked.stream, fault: Fault::Diverged, detail, version: reached });
    } else {
        verification.checked += 1;
    }
}

/// Documents whose account the store did not list; an account that was opened meanwhile is among them.
pub(super) async fn orphans<B: Backends>(
    backends: &B,
    generation: Generation,
    slots: SlotRange,
) -> Result<Vec<AccountId>, BackendError> {
    let mut pairs =
        Pairs::new(StoreHeads::new(backends.store(), slots), IndexVersions::new(backends.index(), generation, slots));
    let mut orphans = Vec::new();
    while let Some(pair) = pairs.next().await? {
        if pair.left == Version::EMPTY {
            orphans.push(pair.account);
        }
    }
    Ok(orphans)
}
