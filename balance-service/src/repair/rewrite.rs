use std::time::Duration;

use shared::backends::Backends;
use shared::id::AccountId;
use shared::index::{ApplyError, Balance, BalanceIndex, Generation};
use tracing::warn;

use crate::fold::Folding;
use crate::refill::{load_stopping, refill};

/// How many accounts are folded and written at once.
const ACCOUNTS_AT_ONCE: usize = 250;

/// How often to check whether the generation is still sealed.
const SEALED_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait for a seal: a switch takes less, and one whose process died is taken over within a lease.
const SEALED_WAIT: Duration = Duration::from_secs(30);

/// Writes the documents of these accounts anew: each is the fold of all events the store has, or, if the account is
/// parked, of those before the one that cannot be folded. No version falls.
///
/// # Errors
/// A backend failed, or the generation is gone or stays sealed. A document that the index refuses is left out.
pub(crate) async fn rewrite<B: Backends>(
    backends: &B,
    generation: Generation,
    accounts: &[AccountId],
) -> Result<(), ApplyError> {
    for accounts in accounts.chunks(ACCOUNTS_AT_ONCE) {
        let mut foldings = load_stopping(backends.index(), generation, accounts).await?;
        refill(backends.store(), &mut foldings).await?;
        let balances = foldings.into_values().filter_map(Folding::into_changed).collect();
        write(backends, generation, balances).await?;
    }
    Ok(())
}

/// Writes all documents but those the index refuses, and waits while a switch has sealed the generation.
async fn write<B: Backends>(
    backends: &B,
    generation: Generation,
    mut balances: Vec<Balance>,
) -> Result<(), ApplyError> {
    let mut waited = Duration::ZERO;
    while !balances.is_empty() {
        match backends.index().repair(generation, balances.clone()).await {
            Ok(()) => break,
            Err(ApplyError::Refused { account, reason }) => {
                warn!(%generation, %account, reason, "the index refuses the right document");
                balances.retain(|balance| balance.id != account);
            }
            Err(ApplyError::Sealed(_)) if waited < SEALED_WAIT => {
                waited += SEALED_PAUSE;
                tokio::time::sleep(SEALED_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
