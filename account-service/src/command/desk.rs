use std::hash::{BuildHasherDefault, DefaultHasher};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};
use shared::clock::Clock;
use shared::id::{AccountId, Ids};
use tokio::sync::mpsc;

use crate::account::Account;

/// How a teller is to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many accounts are kept in memory; about 150 bytes each.
    pub accounts_cached_max: usize,
    /// How many batches are under way at once. More hide the time the store takes to answer; each costs memory for a
    /// batch.
    pub lanes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { accounts_cached_max: 775_000, lanes: 2 }
    }
}

/// In how many parts the cache is divided; fixed, so that what it evicts does not depend on the machine.
const CACHE_PARTS: usize = 8;

/// Accounts in memory, each a prefix of its stream. The hash has no random seed, so a run can be repeated exactly.
pub(super) type AccountCache = Cache<AccountId, Account, UnitWeighter, BuildHasherDefault<DefaultHasher>>;

/// What all batches of a teller work with.
#[derive(Debug)]
pub(super) struct Desk<S> {
    pub(super) store: S,
    pub(super) clock: Clock,
    pub(super) ids: Ids,
    pub(super) cache: AccountCache,
    /// Accounts of which a snapshot is due.
    pub(super) snapshots: mpsc::Sender<Account>,
}

pub(super) fn account_cache(accounts_max: usize) -> AccountCache {
    let options = OptionsBuilder::new()
        .shards(CACHE_PARTS)
        // Otherwise the keys of half as many that were evicted are kept, and each takes as much room as an account.
        .ghost_allocation(0.0)
        .estimated_items_capacity(accounts_max)
        .weight_capacity(accounts_max as u64)
        .build()
        .expect("a cache needs a capacity and has one");
    Cache::with_options(options, UnitWeighter, BuildHasherDefault::default(), DefaultLifecycle::default())
}
