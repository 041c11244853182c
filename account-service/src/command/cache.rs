//! Accounts kept in memory between batches.

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::id::AccountId;
use shared::money::{Currency, Money};
use shared::owner::Owner;

use super::hash::IdHash;
use crate::account::{Account, Status};

/// How many parts the cache is divided into; fixed, so that evictions do not depend on the machine.
const CACHE_PARTS: usize = 8;

/// Accounts in memory, each a prefix of its stream. Identical runs evict the same accounts.
#[derive(Debug)]
pub(super) struct AccountCache(Cache<AccountId, Kept, UnitWeighter, IdHash>);

/// An account without its id, which is its key in the cache.
#[derive(Clone, Debug)]
struct Kept {
    version: Version,
    owner: Owner,
    currency: Currency,
    balance: Money,
    overdraft_limit: Money,
    status: Status,
    opened_at: Timestamp,
    updated_at: Timestamp,
}

impl AccountCache {
    pub(super) fn new(accounts_max: usize) -> Self {
        let options = OptionsBuilder::new()
            .shards(CACHE_PARTS)
            // By default the keys of half as many evicted accounts are kept, each taking as much room as an account.
            .ghost_allocation(0.0)
            .estimated_items_capacity(accounts_max)
            .weight_capacity(accounts_max as u64)
            .build()
            .expect("a cache needs a capacity and has one");
        Self(Cache::with_options(options, UnitWeighter, IdHash::default(), DefaultLifecycle::default()))
    }

    pub(super) fn get(&self, id: AccountId) -> Option<Account> {
        self.0.get(&id).map(|kept| kept.into_account(id))
    }

    pub(super) fn insert(&self, account: Account) {
        self.0.insert(account.id, account.into());
    }

    /// Keeps an account unless one at least as new is kept already. If a newer one is inserted concurrently, either may
    /// stay: both are correct, and the older one costs a read.
    pub(super) fn insert_newer(&self, account: &Account) {
        if self.0.peek(&account.id).is_none_or(|kept| kept.version < account.version) {
            self.insert(account.clone());
        }
    }
}

impl Kept {
    fn into_account(self, id: AccountId) -> Account {
        let Self { version, owner, currency, balance, overdraft_limit, status, opened_at, updated_at } = self;
        Account { id, version, owner, currency, balance, overdraft_limit, status, opened_at, updated_at }
    }
}

impl From<Account> for Kept {
    fn from(account: Account) -> Self {
        let Account { id: _, version, owner, currency, balance, overdraft_limit, status, opened_at, updated_at } =
            account;
        Self { version, owner, currency, balance, overdraft_limit, status, opened_at, updated_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cache itself needs for each in addition: 8 bytes of links, 8 of state, the id, and 5 to 10 bytes of a table.
    #[test]
    fn a_kept_account_takes_72_bytes() {
        assert_eq!(size_of::<Kept>(), 72);
    }
}
