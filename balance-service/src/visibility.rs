//! Telling those who wait for a version that a document was written.
//!
//! A hint, not a promise: whoever is woken looks into the index, and looks again after a while without being woken,
//! since the document may be written by another process. How soon depends on whether a worker of this process writes
//! the account: each look costs the index about what a small write does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use shared::id::AccountId;
use shared::partition::{Slot, SlotRange};
use tokio::sync::Notify;

/// How many accounts may be waited for at once in a process; beyond that, waiting goes by looking alone.
const WAITED_FOR_MAX: usize = 10_000;

/// Who waits for which account, and which accounts are written here. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Visibility(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    waiting: DashMap<AccountId, Arc<Notify>>,
    /// One entry for each worker that follows the log; two generations may have one for the same slots.
    written_here: Mutex<Vec<SlotRange>>,
}

/// One who waits for writes of an account.
#[derive(Debug)]
pub struct Watch {
    account: AccountId,
    written: Arc<Notify>,
    /// Whether it is told of writes at all; those beyond the number that may be waited for are not.
    hears: bool,
    board: Arc<Board>,
}

/// A worker of this process writes the accounts of these slots, until this is dropped.
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

    /// From now on a worker of this process writes these accounts, and says so.
    #[must_use]
    pub(crate) fn written_here(&self, slots: SlotRange) -> WrittenHere {
        self.0.written_here().push(slots);
        WrittenHere { slots, board: Arc::clone(&self.0) }
    }

    /// Wakes those who wait for one of these accounts.
    pub(crate) fn seen(&self, accounts: impl Iterator<Item = AccountId>) {
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
    /// Whether the account is written in this process, and this watch hears of it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        let slot = Slot::of(&self.account);
        self.hears && self.board.written_here().iter().any(|slots| slots.contains(slot))
    }

    /// A future that ends with the next write. Make it before looking into the index, await it after.
    pub fn written(&self) -> tokio::sync::futures::Notified<'_> {
        self.written.notified()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The map and this watch hold one reference each; a third one is somebody else who waits.
        self.board.waiting.remove_if(&self.account, |_, written| Arc::strong_count(written) <= 2);
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
