//! Telling those who wait for a version that a document was written.
//!
//! A hint, not a promise: whoever is woken looks into the index, and looks again after a while without being woken,
//! since the document may be written by another process.

use std::sync::Arc;

use dashmap::DashMap;
use shared::id::AccountId;
use tokio::sync::Notify;

/// How many accounts may be waited for at once in a process; beyond that, waiting goes by looking alone.
const WAITED_FOR_MAX: usize = 10_000;

/// Who waits for which account. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Visibility(Arc<DashMap<AccountId, Arc<Notify>>>);

/// One who waits for writes of an account.
#[derive(Debug)]
pub struct Watch {
    account: AccountId,
    written: Arc<Notify>,
    waiting: Arc<DashMap<AccountId, Arc<Notify>>>,
}

impl Visibility {
    /// Begins to wait for writes of an account; those after this call are not missed.
    #[must_use]
    pub fn watch(&self, account: AccountId) -> Watch {
        let written = if self.0.len() < WAITED_FOR_MAX {
            Arc::clone(&self.0.entry(account).or_default())
        } else {
            Arc::default()
        };
        Watch { account, written, waiting: Arc::clone(&self.0) }
    }

    /// Wakes those who wait for one of these accounts.
    pub(crate) fn seen(&self, accounts: impl Iterator<Item = AccountId>) {
        if self.0.is_empty() {
            return;
        }
        for account in accounts {
            if let Some(written) = self.0.get(&account) {
                written.notify_waiters();
            }
        }
    }
}

impl Watch {
    /// A future that ends with the next write. Make it before looking into the index, await it after.
    pub fn written(&self) -> tokio::sync::futures::Notified<'_> {
        self.written.notified()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The map and this watch hold one reference each; a third one is somebody else who waits.
        self.waiting.remove_if(&self.account, |_, written| Arc::strong_count(written) <= 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_wakes_those_who_wait_for_its_account_and_the_last_one_tidies_up() {
        let visibility = Visibility::default();
        let account = AccountId::from_bytes([1; 16]);
        let (first, second) = (visibility.watch(account), visibility.watch(account));
        {
            let (one, two) = (first.written(), second.written());
            tokio::pin!(one, two);
            one.as_mut().enable();
            two.as_mut().enable();
            visibility.seen([AccountId::from_bytes([2; 16]), account].into_iter());
            one.await;
            two.await;
        }
        drop(first);
        assert_eq!(visibility.0.len(), 1);
        drop(second);
        assert!(visibility.0.is_empty());
    }
}
