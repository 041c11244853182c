//! Notifies queries that wait for a version when a document is written.
//!
//! A hint, not a promise: a waiting query reads the index when it is woken, and from time to time without being woken,
//! since another process may write the document. How often depends on whether a worker of this process writes the
//! account: each read costs the index about as much as a small write.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use shared::id::AccountId;
use shared::partition::{Slot, SlotRange};
use tokio::sync::Notify;

/// How many accounts can be watched at once in a process; beyond that, a waiting query only polls the index.
const WAITED_FOR_MAX: usize = 10_000;

/// Which accounts are waited for, and which are written in this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Visibility(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    waiting: DashMap<AccountId, Arc<Notify>>,
    /// One entry for each worker that follows the log; two generations may have one for the same slots.
    written_here: Mutex<Vec<SlotRange>>,
}

/// A wait for writes of an account.
#[derive(Debug)]
pub struct Watch {
    account: AccountId,
    written: Arc<Notify>,
    /// Whether it is notified of writes; beyond `WAITED_FOR_MAX` accounts it is not.
    hears: bool,
    board: Arc<Board>,
}

/// Declares, until dropped, that a worker of this process writes the accounts of these slots.
#[derive(Debug)]
pub(crate) struct WrittenHere {
    slots: SlotRange,
    board: Arc<Board>,
}

impl Visibility {
    /// Begins to wait for writes of an account; those after this call are not missed.
    #[must_use]
    pub fn watch(&self, account: AccountId) -> Watch {
        let waiting = &self.0.waiting;
        let hears = waiting.len() < WAITED_FOR_MAX || waiting.contains_key(&account);
        let written = if hears { Arc::clone(&waiting.entry(account).or_default()) } else { Arc::default() };
        Watch { account, written, hears, board: Arc::clone(&self.0) }
    }

    /// Declares that from now on a worker of this process writes the accounts of these slots, and notifies of its
    /// writes.
    #[must_use]
    pub(crate) fn written_here(&self, slots: SlotRange) -> WrittenHere {
        self.0.written_here().push(slots);
        WrittenHere { slots, board: Arc::clone(&self.0) }
    }

    /// Wakes the waits for these accounts.
    pub fn seen(&self, accounts: impl Iterator<Item = AccountId>) {
        let waiting = &self.0.waiting;
        if waiting.is_empty() {
            return;
        }
        for account in accounts {
            if let Some(written) = waiting.get(&account) {
                written.notify_waiters();
            }
        }
    }
}

impl Board {
    fn written_here(&self) -> MutexGuard<'_, Vec<SlotRange>> {
        self.written_here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Ends the wait, and removes the account if nobody else waits for it. Both happen under the same lock of the map:
    /// of several watches that end at once, the last one to get it removes the account.
    fn end(&mut self) {
        if self.hears {
            self.board.waiting.remove_if(&self.account, |_, written| {
                drop(mem::take(&mut self.written));
                Arc::strong_count(written) == 1
            });
        }
    }

    /// Whether a worker of this process writes the account and this watch is notified of it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        let slot = Slot::of(&self.account);
        self.hears && self.board.written_here().iter().any(|slots| slots.contains(slot))
    }

    /// A future that completes at the next write. Create it before reading the index, and await it afterwards.
    pub fn written(&self) -> tokio::sync::futures::Notified<'_> {
        self.written.notified()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for WrittenHere {
    fn drop(&mut self) {
        let mut all = self.board.written_here();
        if let Some(at) = all.iter().position(|slots| *slots == self.slots) {
            all.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::partition::PartitionMap;

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
        assert_eq!(visibility.0.waiting.len(), 1);
        drop(second);
        assert!(visibility.0.waiting.is_empty());
    }

    #[test]
    fn watches_that_end_at_once_leave_nothing_behind() {
        let visibility = Visibility::default();
        let mut watches = [(); 3].map(|()| visibility.watch(AccountId::from_bytes([1; 16])));
        // Each as far as it comes before any of them is gone.
        watches.iter_mut().for_each(Watch::end);
        assert!(visibility.0.waiting.is_empty());
    }

    #[test]
    fn an_account_is_told_of_while_a_worker_of_this_process_writes_it() {
        let visibility = Visibility::default();
        let partitions = PartitionMap::new(2).unwrap();
        let watch = visibility.watch(AccountId::from_bytes([1; 16]));
        let own = partitions.partition_of(&AccountId::from_bytes([1; 16]));
        let other = partitions.all().find(|partition| *partition != own).unwrap();
        let elsewhere = visibility.written_here(partitions.slots(other));
        assert!(!watch.is_told(), "another partition is written here");
        let generations = [own, own].map(|partition| visibility.written_here(partitions.slots(partition)));
        assert!(watch.is_told());
        let [first, second] = generations;
        drop((first, elsewhere));
        assert!(watch.is_told(), "the other generation is still written");
        drop(second);
        assert!(!watch.is_told());
    }
}
