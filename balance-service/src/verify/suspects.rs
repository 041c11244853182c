use std::time::Duration;

use shared::backends::Backends;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::event::StreamAfter;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Generation, Loaded};
use shared::store::EventStore;

use super::compare::compare;
use super::report::{Fault, Finding, Verification};
use super::scan::Suspects;
use crate::fold::Folding;

/// The pauses before suspects are looked at again: an event may be on its way that long.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(10)];

/// How many accounts are looked at in one call.
const ACCOUNTS_AT_ONCE: usize = 500;

/// How many events of one stream are read at once.
const STREAM_EVENTS: usize = 1_000;

/// Looks again at what the scan could not decide, and reports what stays wrong.
pub(super) async fn judge<B: Backends>(
    backends: &B,
    generation: Generation,
    mut suspects: Suspects,
    orphans: Vec<AccountId>,
    verification: &mut Verification,
) -> Result<(), BackendError> {
    for account in orphans {
        // A document that appeared after the store was listed: its account must be in the store now.
        suspects.entry(account).or_insert(Version::EMPTY);
    }
    let mut pauses = PAUSES.iter();
    loop {
        let last_look = pauses.len() == 0;
        let mut undecided = Suspects::new();
        let accounts: Vec<(AccountId, Version)> = suspects.into_iter().collect();
        for chunk in accounts.chunks(ACCOUNTS_AT_ONCE) {
            let ids: Vec<AccountId> = chunk.iter().map(|(account, _)| *account).collect();
            let loaded = backends.index().load(generation, &ids).await?;
            for ((account, head), document) in chunk.iter().zip(loaded) {
                if !look(backends, *account, *head, document, last_look, verification).await? {
                    undecided.insert(*account, *head);
                }
            }
        }
        suspects = undecided;
        let Some(pause) = pauses.next().filter(|_| !suspects.is_empty()) else { return Ok(()) };
        tokio::time::sleep(*pause).await;
    }
}

/// Judges one account; answers false if it may still become right.
async fn look<B: Backends>(
    backends: &B,
    account: AccountId,
    head: Version,
    document: Loaded,
    last_look: bool,
    verification: &mut Verification,
) -> Result<bool, BackendError> {
    let head = document.reachable(head);
    let reached = document.balance.as_ref().map_or(Version::EMPTY, |balance| balance.version);
    if reached < head {
        if last_look {
            let fault = if document.balance.is_none() { Fault::Missing } else { Fault::Behind };
            let detail = format!("the document is at {reached}, the store was at {head}");
            verification.add(Finding { account, fault, detail, version: reached });
        }
        return Ok(last_look);
    }
    if document.parked.is_some() {
        verification.parked += 1;
        return Ok(true);
    }
    let Some(document) = document.balance else { return Ok(true) };
    let fold = fold_until(backends, account, reached, verification).await?;
    let finding = match fold.balance() {
        Some(fold) if fold.version == reached => compare(fold, &document),
        Some(fold) => {
            let detail = format!("the document is at {reached}, the store's events fold to {}", fold.version);
            Some(Finding { account, fault: Fault::Ahead, detail, version: reached })
        }
        None => {
            let detail = "there is a document and no event".to_owned();
            Some(Finding { account, fault: Fault::Orphan, detail, version: reached })
        }
    };
    verification.checked += 1;
    if let Some(finding) = finding {
        verification.add(finding);
    }
    Ok(true)
}

async fn fold_until<B: Backends>(
    backends: &B,
    account: AccountId,
    until: Version,
    verification: &mut Verification,
) -> Result<Folding, BackendError> {
    let mut folding = Folding::new(account, None);
    while folding.version() < until && !folding.is_stuck() {
        let place = StreamAfter { stream: account, after: folding.version() };
        let answers = backends.store().read_streams(&[place], STREAM_EVENTS).await?;
        let before = folding.version();
        for recorded in answers.iter().flatten() {
            verification.events += u64::from(recorded.events.count);
            folding.take_until(recorded, until);
        }
        if folding.version() == before {
            break;
        }
    }
    Ok(folding)
}
