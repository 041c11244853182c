//! What the batches of a teller share, and the settings of a teller.

use shared::clock::Clock;
use shared::id::Ids;
use tokio::sync::mpsc;
use tracing::debug;

use super::cache::AccountCache;
use crate::account::Account;

/// How many accounts are kept by default: with a million accounts in the store, the service stays below 300 MB.
const ACCOUNTS_CACHED_MAX: usize = 840_000;

/// How many batches are under way by default: with one, the service idles while the store answers; with three, batches
/// are smaller and cost the store more (`docs/PERFORMANCE.md`, "What was tried").
const BATCHES_AT_ONCE: usize = 2;

/// The settings of a teller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many accounts are kept in memory; about 115 bytes each, unless their owners have long names.
    pub accounts_cached_max: usize,
    /// How many batches are under way at once. More of them hide the latency of the store; each costs the memory of a
    /// batch.
    pub batches_at_once: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { accounts_cached_max: ACCOUNTS_CACHED_MAX, batches_at_once: BATCHES_AT_ONCE }
    }
}

/// What all batches of a teller share.
#[derive(Debug)]
pub(super) struct Desk<S> {
    pub(super) store: S,
    pub(super) clock: Clock,
    pub(super) ids: Ids,
    pub(super) cache: AccountCache,
    /// Accounts that are due for a snapshot.
    pub(super) snapshots: mpsc::Sender<Account>,
}

impl<S> Desk<S> {
    /// Requests a snapshot of an account, and returns whether there was room for the request.
    pub(super) fn request_snapshot(&self, account: &Account) -> bool {
        let is_requested = self.snapshots.try_send(account.clone()).is_ok();
        if !is_requested {
            debug!(account = %account.id, "snapshot skipped, the queue is full");
        }
        is_requested
    }
}
