//! Parked accounts: listing and counting them, and unparking one: its stream is folded again, and if that succeeds now,
//! the document is written and the entry removed.
//!
//! Every process counts the parked accounts of the bank for its metrics. It asks the index each time and the index
//! alone, so the count is right whichever process parked an account or let it go, whoever owns the partitions, and
//! whichever generation answers queries; it is half a minute late at most. Since all processes show the same number, an
//! alarm takes the highest of them, not the sum.

use std::convert::Infallible;
use std::time::Duration;

use metrics::gauge;
use shared::backends::Backends;
use shared::clock::Clock;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{ApplyError, Balance, BalanceIndex, Generation, Loaded, Parked, Projected, QueryError};
use shared::partition::SlotRange;
use shared::telemetry::metric::ACCOUNTS_PARKED_NOW;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::fold::Folding;
use crate::refill::refill;
use crate::roster::Roster;

/// How often the parked accounts are counted.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// How many are counted at most: one page of entries. Whether there are more makes no difference to whoever is called.
const COUNTED_MAX: usize = 1_000;

/// Why a parked account stays parked.
#[derive(Debug, thiserror::Error)]
pub enum ParkingError {
    /// It is not parked.
    #[error("the account is not parked")]
    NotParked,
    /// Its next event still cannot be folded, or the index still refuses its document.
    #[error("event {} is still poison: {}", .0.at, .0.reason)]
    StillPoison(Parked),
    /// There is no view yet.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The index took no write, for now: a document that it refuses is poison.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// The parked accounts of the active generation, ordered by account. An entry that the account's document has passed
/// does not count: its removal failed, or an earlier release left it behind.
///
/// # Errors
/// There is no active generation, or a backend failed.
pub async fn parked<B: Backends>(
    backends: &B,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<Parked>, ParkingError> {
    let generation = active(backends).await?;
    Ok(parked_in(backends.index(), generation, after, limit).await?)
}

/// The parked accounts of a generation, in the same way.
async fn parked_in<I: BalanceIndex>(
    index: &I,
    generation: Generation,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<Parked>, BackendError> {
    let (mut after, mut parked) = (after, Vec::new());
    loop {
        let page = entries(index, generation, after, limit).await?;
        let is_last = page.len() < limit;
        after = page.last().map(|entry| entry.parked.account);
        parked.extend(page.into_iter().filter(|entry| !entry.is_passed).map(|entry| entry.parked));
        if is_last || parked.len() >= limit {
            parked.truncate(limit);
            return Ok(parked);
        }
    }
}

/// Counts the parked accounts of the active generation from time to time, and shows how many there are.
pub(crate) async fn keep_counting<B: Backends>(backends: &B, roster: &Roster) -> Infallible {
    loop {
        let active = roster.active().await;
        if let Err(failure) = show_parked(backends.index(), active).await {
            debug!(%failure, "the parked accounts are not counted, trying again later");
        }
        sleep(COUNT_EVERY).await;
    }
}

async fn show_parked<I: BalanceIndex>(index: &I, generation: Generation) -> Result<(), BackendError> {
    let parked = parked_in(index, generation, None, COUNTED_MAX).await?.len();
    gauge!(ACCOUNTS_PARKED_NOW.name).set(u32::try_from(parked).unwrap_or(u32::MAX));
    Ok(())
}

/// The entry of a parked account.
pub(crate) struct Entry {
    pub(crate) parked: Parked,
    /// Whether the account's document has passed it, so that it does not count.
    pub(crate) is_passed: bool,
}

/// A page of the entries of a generation, ordered by account. A page with fewer than `limit` is the last.
pub(crate) async fn entries<I: BalanceIndex>(
    index: &I,
    generation: Generation,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<Entry>, BackendError> {
    let entries = index.parked(generation, SlotRange::ALL, after, limit).await?;
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<AccountId> = entries.iter().map(|entry| entry.account).collect();
    let loaded = index.load(generation, &accounts).await?;
    let entry = |(parked, loaded): (Parked, &Loaded)| Entry { parked, is_passed: loaded.has_passed_entry() };
    Ok(entries.into_iter().zip(&loaded).map(entry).collect())
}

/// The first version of an account that cannot be folded, if it is parked in the active generation.
pub(crate) async fn parked_at<B: Backends>(backends: &B, account: AccountId) -> Result<Option<Version>, ParkingError> {
    let generation = active(backends).await?;
    let loaded = backends.index().load(generation, &[account]).await?.pop().unwrap_or_default();
    Ok(loaded.parked_at())
}

/// Folds a parked account again, unparks it if that succeeds, and returns its document.
///
/// # Errors
/// [`ParkingError::StillPoison`] if the same event, or a later one, cannot be folded, or if the index refuses the
/// document. If it is a later one, the document has advanced to the version before it, and the account is parked there.
pub async fn retry<B: Backends>(backends: &B, clock: &Clock, account: AccountId) -> Result<Balance, ParkingError> {
    let generation = active(backends).await?;
    let index = backends.index();
    let loaded = index.load(generation, &[account]).await?.pop().unwrap_or_default();
    let Some(entry) = &loaded.parked else { return Err(ParkingError::NotParked) };
    // As a worker parks it: at the first event that the index does not show.
    let unless_refused = |failure| {
        let ParkingError::Apply(ApplyError::Refused { reason, .. }) = failure else { return failure };
        ParkingError::StillPoison(Parked { at: loaded.version().next(), reason, ..entry.clone() })
    };
    let folding = fold_anew(backends, account).await?;
    if let Some(parked) = folding.to_parked(clock.now()).filter(|parked| parked.at <= entry.at) {
        // The entry stays as it is, and so does the time since when the account is parked.
        return Err(ParkingError::StillPoison(Parked { since: entry.since, ..parked }));
    }
    // The document first: between the two calls the account is complete but parked, which only delays later events.
    let balance = write(backends, clock, generation, folding).await.map_err(unless_refused)?;
    index.unpark(generation, &[account]).await?;
    info!(%account, version = %balance.version, "account unparked");
    // Events that a worker has skipped since the fold, because the account was parked, will not come again from the
    // log. If this fails, the account's next event or a comparison of heads finds what is missing.
    match catch_up(backends, clock, generation, account).await {
        Err(failure @ (ParkingError::Apply(_) | ParkingError::Backend(_))) => {
            warn!(%account, %failure, "what came while the account was parked is not folded yet");
            Ok(balance)
        }
        caught_up => caught_up,
    }
}

/// Writes what the store now holds of an account, and parks it again if it has come to another poison event.
async fn catch_up<B: Backends>(
    backends: &B,
    clock: &Clock,
    generation: Generation,
    account: AccountId,
) -> Result<Balance, ParkingError> {
    let folding = fold_anew(backends, account).await?;
    write(backends, clock, generation, folding).await
}

/// Writes what was folded of an account, and in the same write parks it where it cannot be folded any further: an entry
/// that the document passes is replaced.
async fn write<B: Backends>(
    backends: &B,
    clock: &Clock,
    generation: Generation,
    folding: Folding,
) -> Result<Balance, ParkingError> {
    let parked = folding.to_parked(clock.now());
    let balance = folding.into_changed().ok_or(ParkingError::NotParked)?;
    let parked_again = parked.iter().cloned().collect();
    let projected = Projected { balances: vec![balance.clone()], parked: parked_again, checkpoint: None };
    backends.index().apply(generation, &projected).await?;
    parked.map_or(Ok(balance), |parked| Err(ParkingError::StillPoison(parked)))
}

/// Everything the store holds of an account, folded from its first event: the existing document may be what makes the
/// event poison.
async fn fold_anew<B: Backends>(backends: &B, account: AccountId) -> Result<Folding, BackendError> {
    let mut foldings = [(account, Folding::new(account, None))].into();
    refill(backends.store(), &mut foldings).await?;
    Ok(foldings.remove(&account).unwrap_or_else(|| Folding::new(account, None)))
}

async fn active<B: Backends>(backends: &B) -> Result<Generation, ParkingError> {
    let generations = backends.index().generations().await?;
    Ok(generations.active.ok_or(QueryError::NoGeneration)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Timestamp;
    use shared::index::EmbeddedIndex;
    use shared::partition::PartitionMap;
    use shared::telemetry::install_metrics;
    use tokio_util::sync::CancellationToken;

    use crate::nudge::Nudge;
    use crate::roster::keep_roster;
    use crate::testing::{document, embedded, shown};

    /// Parks these accounts at their first event.
    async fn park(index: &EmbeddedIndex, generation: Generation, accounts: &[AccountId]) {
        let entry = |account: &AccountId| Parked {
            account: *account,
            at: Version::new(1),
            reason: "unknown to this release".into(),
            since: Timestamp::EPOCH,
        };
        let projected = Projected { parked: accounts.iter().map(entry).collect(), ..Projected::default() };
        index.apply(generation, &projected).await.unwrap();
    }

    /// Goal: an alarm lasts for as long as an account is stuck, and ends once none is.
    #[tokio::test]
    async fn the_number_of_accounts_that_are_parked_now_is_shown_and_is_about_the_active_generation() {
        let metrics = install_metrics().unwrap();
        let (backends, _folder) = embedded(PartitionMap::new(1).unwrap()).await;
        let index = &backends.index;
        let [one, two] = [1, 2].map(|number| AccountId::from_bytes([number; 16]));
        let line = |parked: u32| format!("{} {parked}", ACCOUNTS_PARKED_NOW.name);
        let first = index.create().await.unwrap();
        index.promote(first, None).await.unwrap();
        park(index, first, &[one, two]).await;

        let (roster, shutdown) = (Roster::default(), CancellationToken::new());
        let looking =
            keep_roster(backends.clone(), Clock::system(), Nudge::default(), roster.clone(), shutdown.clone());
        let counting = shutdown.run_until_cancelled(keep_counting(&backends, &roster));
        let asking = async {
            shown(&metrics, &line(2)).await;
            shutdown.cancel();
        };
        let (looked, _, ()) = tokio::join!(looking, counting, asking);
        looked.unwrap();

        let passed = Projected { balances: vec![document(one, 1)], ..Projected::default() };
        index.apply(first, &passed).await.unwrap();
        show_parked(index, first).await.unwrap();
        shown(&metrics, &line(1)).await;
        index.unpark(first, &[one, two]).await.unwrap();
        show_parked(index, first).await.unwrap();
        shown(&metrics, &line(0)).await;

        let second = index.create().await.unwrap();
        park(index, second, &[two]).await;
        show_parked(index, second).await.unwrap();
        shown(&metrics, &line(1)).await;
    }
}
