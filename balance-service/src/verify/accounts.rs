//! The accounts that a check names: that they exist, and where their streams end.
//!
//! Nothing else of their partitions is read. The head of a stream is that of law P2, and the accounts are then judged
//! as suspects are, from their first look on.

use std::collections::BTreeMap;

use shared::backends::Backends;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::BalanceIndex;
use shared::partition::{Partition, PartitionMap};
use shared::store::EventStore;

use super::check::{CheckError, Progress};
use super::suspects::DocumentSuspects;
use crate::fold::Folding;
use crate::refill::refill_patiently;

/// How many accounts a check names at most: as many as fit into the query of a URL with room to spare, and as are read
/// in one call. Whoever doubts more of them has the partitions compared.
pub const ACCOUNTS_MAX: usize = 100;

/// The accounts that a check names: 1 to [`ACCOUNTS_MAX`], each once and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts(Vec<AccountId>);

/// Why these accounts are not checked: how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must name 1 to {ACCOUNTS_MAX} accounts, not {0}")]
pub struct AccountsError(usize);

impl Accounts {
    /// These accounts; one that is repeated counts once.
    ///
    /// # Errors
    /// There are none, or more than [`ACCOUNTS_MAX`].
    pub fn new(mut accounts: Vec<AccountId>) -> Result<Self, AccountsError> {
        accounts.sort_unstable();
        accounts.dedup();
        let count = accounts.len();
        if (1..=ACCOUNTS_MAX).contains(&count) { Ok(Self(accounts)) } else { Err(AccountsError(count)) }
    }

    /// Each of them once, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[AccountId] {
        &self.0
    }
}

/// The accounts by partition, with the heads that their streams have now.
///
/// # Errors
/// Some of the accounts do not exist: then nothing is compared, since who mistypes one may have meant another. Or a
/// backend failed.
pub(super) async fn by_partition<B: Backends>(
    backends: &B,
    map: PartitionMap,
    accounts: &Accounts,
    progress: &Progress,
) -> Result<BTreeMap<Partition, DocumentSuspects>, CheckError> {
    let heads = heads(backends.store(), accounts).await?;
    let unknown = unknown(backends.index(), &heads).await?;
    if !unknown.is_empty() {
        return Err(CheckError::NoAccounts(unknown));
    }
    let mut partitions: BTreeMap<Partition, DocumentSuspects> = BTreeMap::new();
    for (account, head) in heads {
        progress.one_more();
        partitions.entry(map.partition_of(&account)).or_default().insert(account, head);
    }
    Ok(partitions)
}

/// The head of each stream, or the first event that cannot be folded: no document has come further.
async fn heads<S: EventStore>(store: &S, accounts: &Accounts) -> Result<DocumentSuspects, BackendError> {
    let mut foldings: BTreeMap<AccountId, Folding> =
        accounts.0.iter().map(|account| (*account, Folding::new(*account, None))).collect();
    refill_patiently(store, &mut foldings).await?;
    let head = |folding: &Folding| folding.poison().map_or_else(|| folding.version(), |(at, _)| *at);
    Ok(foldings.iter().map(|(account, folding)| (*account, head(folding))).collect())
}

/// The accounts without events, unless they have a document: that is an orphan, for the check to tell.
async fn unknown<I: BalanceIndex>(index: &I, heads: &DocumentSuspects) -> Result<Vec<AccountId>, CheckError> {
    let empty = heads.iter().filter(|(_, head)| **head == Version::EMPTY);
    let empty: Vec<AccountId> = empty.map(|(account, _)| *account).collect();
    if empty.is_empty() {
        return Ok(Vec::new());
    }
    let active = index.generations().await?.active.ok_or(CheckError::NoGeneration)?;
    let loaded = index.load(active, &empty).await?;
    let unknown = empty.into_iter().zip(loaded).filter(|(_, loaded)| loaded.balance.is_none());
    Ok(unknown.map(|(account, _)| account).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_names_at_least_one_account_and_at_most_a_hundred_different_ones() {
        let named = |count: u128| -> Vec<AccountId> {
            (0..count).map(|number| AccountId::from_bytes(number.to_be_bytes())).collect()
        };
        let refused = |count| Accounts::new(named(count)).unwrap_err().to_string();
        assert_eq!(refused(0), "must name 1 to 100 accounts, not 0");
        assert_eq!(refused(101), "must name 1 to 100 accounts, not 101");
        let repeated = [named(100), named(100)].concat();
        assert_eq!(Accounts::new(repeated).unwrap().as_slice(), named(100));
    }
}
