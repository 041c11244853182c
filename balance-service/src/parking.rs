//! Letting a parked account go: fold its stream again, and if that works now, write the document and unpark it.

use shared::backends::Backends;
use shared::clock::Clock;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{ApplyError, Balance, BalanceIndex, Generation, Parked, Projected, QueryError};
use shared::partition::SlotRange;
use tracing::{info, warn};

use crate::fold::Folding;
use crate::worker::refill;

/// Why a parked account stays parked.
#[derive(Debug, thiserror::Error)]
pub enum ParkingError {
    /// It is not parked.
    #[error("the account is not parked")]
    NotParked,
    /// Its next event can still not be folded.
    #[error("event {} can still not be folded: {}", .0.at, .0.reason)]
    StillPoison(Parked),
    /// There is no view yet.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The index refused the document.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// The parked accounts of the active generation, ordered by account.
///
/// # Errors
/// There is no active generation, or a backend failed.
pub async fn parked<B: Backends>(
    backends: &B,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<Parked>, ParkingError> {
    let generation = active(backends).await?;
    Ok(backends.index().parked(generation, SlotRange::ALL, after, limit).await?)
}

/// Folds a parked account again and lets it go if that works; answers its document.
///
/// # Errors
/// [`ParkingError::StillPoison`] if the same event, or a later one, cannot be folded.
pub async fn retry<B: Backends>(backends: &B, clock: &Clock, account: AccountId) -> Result<Balance, ParkingError> {
    let generation = active(backends).await?;
    let index = backends.index();
    let loaded = index.load(generation, &[account]).await?.pop().unwrap_or_default();
    if loaded.parked.is_none() {
        return Err(ParkingError::NotParked);
    }
    let folding = fold_anew(backends, account).await?;
    if let Some(parked) = folding.to_parked(clock.now()) {
        return Err(ParkingError::StillPoison(parked));
    }
    let balance = folding.into_changed().ok_or(ParkingError::NotParked)?;
    // The document first: between the two calls the account is whole and parked, which is only slow.
    index.apply(generation, &Projected { balances: vec![balance.clone()], ..Projected::default() }).await?;
    index.unpark(generation, &[account]).await?;
    info!(%account, version = %balance.version, "parked account let go");
    // What a worker has passed over since the fold, because the account was parked, no record will bring again. If this
    // fails, the account's next event or a comparison of heads finds what is missing.
    match catch_up(backends, clock, generation, account).await {
        Ok(Some(parked)) => Err(ParkingError::StillPoison(parked)),
        Ok(None) => Ok(index.load(generation, &[account]).await?.pop().and_then(|now| now.balance).unwrap_or(balance)),
        Err(failure) => {
            warn!(%account, %failure, "what came while the account was parked is not folded yet");
            Ok(balance)
        }
    }
}

/// Writes what the store holds of an account by now; answers why it is parked again if it is.
async fn catch_up<B: Backends>(
    backends: &B,
    clock: &Clock,
    generation: Generation,
    account: AccountId,
) -> Result<Option<Parked>, ParkingError> {
    let folding = fold_anew(backends, account).await?;
    let parked = folding.to_parked(clock.now());
    let balances = folding.into_changed().into_iter().collect();
    let projected = Projected { balances, parked: parked.iter().cloned().collect(), checkpoint: None };
    backends.index().apply(generation, &projected).await?;
    Ok(parked)
}

/// All the store holds of an account, folded from the first event on: what stands in the document may be what the
/// poison is about.
async fn fold_anew<B: Backends>(backends: &B, account: AccountId) -> Result<Folding, BackendError> {
    let mut foldings = [(account, Folding::new(account, None))].into();
    refill(backends.store(), &mut foldings).await?;
    Ok(foldings.remove(&account).unwrap_or_else(|| Folding::new(account, None)))
}

async fn active<B: Backends>(backends: &B) -> Result<Generation, ParkingError> {
    let generations = backends.index().generations().await?;
    Ok(generations.active.ok_or(QueryError::NoGeneration)?)
}
