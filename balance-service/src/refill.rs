//! Folding what the store holds of given accounts beyond the versions they have reached.

use std::collections::BTreeMap;

use shared::coordinate::Version;
use shared::error::BackendError;
use shared::event::StreamAfter;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Generation, Loaded};
use shared::retry::Backoff;
use shared::store::EventStore;

use crate::fold::Folding;
use crate::stint::Stint;

/// How many streams are read in one call.
const STREAMS_AT_ONCE: usize = 500;

/// Roughly how many events of all streams together are read in one call: about 20 megabytes.
const EVENTS_AT_ONCE: usize = 65_536;

/// How many events of one stream are read in one call.
const EVENTS_OF_STREAM: usize = 1_000;

/// What the index knows of these accounts, ready to be folded further.
pub(crate) async fn load_foldings<I: BalanceIndex>(
    index: &I,
    generation: Generation,
    accounts: &[AccountId],
) -> Result<BTreeMap<AccountId, Folding>, BackendError> {
    let to_folding = |account, loaded: Loaded| match loaded.parked_at() {
        Some(at) => Folding::parked(account, loaded.balance, at),
        None => Folding::new(account, loaded.balance),
    };
    load_as(index, generation, accounts, to_folding).await
}

/// These accounts, to be folded again from their first event, but only up to where they are parked.
pub(crate) async fn load_stopping<I: BalanceIndex>(
    index: &I,
    generation: Generation,
    accounts: &[AccountId],
) -> Result<BTreeMap<AccountId, Folding>, BackendError> {
    let to_folding = |account, loaded: Loaded| Folding::up_to(account, loaded.reachable(Version::MAX));
    load_as(index, generation, accounts, to_folding).await
}

async fn load_as<I: BalanceIndex>(
    index: &I,
    generation: Generation,
    accounts: &[AccountId],
    to_folding: impl Fn(AccountId, Loaded) -> Folding + Send,
) -> Result<BTreeMap<AccountId, Folding>, BackendError> {
    let loaded = index.load(generation, accounts).await?;
    Ok(accounts.iter().zip(loaded).map(|(account, loaded)| (*account, to_folding(*account, loaded))).collect())
}

/// Does what [`refill`] does, even if the store is unavailable for some seconds. What was folded before a failure stays
/// folded.
pub(crate) async fn refill_patiently<S: EventStore>(
    store: &S,
    foldings: &mut BTreeMap<AccountId, Folding>,
) -> Result<(), BackendError> {
    let mut backoff = Backoff::default();
    while let Err(failure) = refill(store, foldings).await {
        backoff.wait(failure).await?;
    }
    Ok(())
}

/// Folds everything the store holds after the versions of the accounts, in bounded calls however many they are.
pub(crate) async fn refill<S: EventStore>(
    store: &S,
    foldings: &mut BTreeMap<AccountId, Folding>,
) -> Result<(), BackendError> {
    let mut open: Vec<AccountId> =
        foldings.iter().filter(|(_, f)| !f.is_stuck()).map(|(account, _)| *account).collect();
    let mut stint = Stint::new();
    while !open.is_empty() {
        let asked = open.split_off(open.len().saturating_sub(STREAMS_AT_ONCE));
        let limit_each = EVENTS_OF_STREAM.min(EVENTS_AT_ONCE / asked.len());
        let place = |account: &AccountId| StreamAfter { stream: *account, after: foldings[account].version() };
        let questions: Vec<StreamAfter> = asked.iter().map(place).collect();
        let answers = store.read_streams(&questions, limit_each).await?;
        for (question, answer) in questions.iter().zip(answers) {
            let Some(folding) = foldings.get_mut(&question.stream) else { continue };
            for recorded in &answer {
                stint.next().await;
                folding.take(recorded);
            }
            let read: u64 = answer.iter().map(|recorded| u64::from(recorded.events.count)).sum();
            let may_have_more = read >= limit_each as u64 && folding.version() > question.after;
            if may_have_more && !folding.is_stuck() {
                open.push(question.stream);
            }
        }
    }
    Ok(())
}
