//! Rewriting wrong documents from the store (law P4).

use std::time::Duration;

use shared::backends::Backends;
use shared::id::AccountId;
use shared::index::{ApplyError, Balance, BalanceIndex, Generation};
use tracing::warn;

use super::check::CheckError;
use super::report::{Fault, Finding};
use crate::fold::Folding;
use crate::worker::{load_stopping, refill};

/// How many accounts are repaired in one write.
const ACCOUNTS_AT_ONCE: usize = 250;

/// How often a repair checks whether the generation is still sealed.
const SEALED_PAUSE: Duration = Duration::from_millis(50);

/// How long a repair waits for a seal: a switch takes less, and one whose process died is taken over within a lease.
const SEALED_WAIT: Duration = Duration::from_secs(30);

/// Repairs what can be repaired. The next comparison tells whether that was enough.
pub(super) async fn repair<B: Backends>(
    backends: &B,
    generation: Generation,
    wrong: &[Finding],
) -> Result<(), CheckError> {
    let accounts: Vec<AccountId> = wrong.iter().filter(|finding| can_be_repaired(finding)).map(|f| f.account).collect();
    for accounts in accounts.chunks(ACCOUNTS_AT_ONCE) {
        let mut foldings = load_stopping(backends.index(), generation, accounts).await?;
        refill(backends.store(), &mut foldings).await?;
        let balances = foldings.into_values().filter_map(Folding::into_changed).collect();
        write(backends, generation, balances).await?;
    }
    Ok(())
}

/// An orphan has no events, and a document that is ahead means that the store was set back: an operator has to decide.
const fn can_be_repaired(finding: &Finding) -> bool {
    match finding.fault {
        Fault::Missing | Fault::Behind | Fault::Diverged => true,
        Fault::Orphan | Fault::Ahead => false,
    }
}

/// Writes all documents but those the index refuses, and waits while a switch has sealed the generation.
async fn write<B: Backends>(
    backends: &B,
    generation: Generation,
    mut balances: Vec<Balance>,
) -> Result<(), CheckError> {
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
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
