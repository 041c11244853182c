//! Which waiting commands may be decided now.
//!
//! CL1  Two unfinished batches never share an account.
//! CL2  The commands of one account leave in the order they came.
//! CL3  A command is ready as soon as all of its accounts are free and no other command is ahead of it. The dispatch
//!      chooses when ready commands leave.
//!
//! A command for an account that is in an unfinished batch queues for that account, a transfer for both of its
//! accounts. It becomes ready when it is at the front of each of its queues. No command waits for ever: the oldest
//! waiting one is at the front of all its queues and waits only for batches, which end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;

use shared::id::AccountId;

use super::hash::IdHash;

/// The accounts of one command: one, or two different ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parties {
    first: AccountId,
    second: Option<AccountId>,
}

impl Parties {
    pub(super) fn new(first: AccountId, second: Option<AccountId>) -> Self {
        Self { first, second: second.filter(|second| *second != first) }
    }

    fn all(self) -> impl Iterator<Item = AccountId> {
        std::iter::once(self.first).chain(self.second)
    }
}

/// The waiting commands, and the accounts they wait for.
#[derive(Debug)]
pub(super) struct Claims<T> {
    next_ticket: u64,
    ready: Vec<(Parties, T)>,
    waiting: BTreeMap<u64, (Parties, T)>,
    /// Only accounts that are in a batch or waited for; looked up, never iterated over.
    accounts: HashMap<AccountId, Claim, IdHash>,
}

#[derive(Debug, Default)]
struct Claim {
    in_batch: bool,
    tickets: VecDeque<u64>,
}

/// Commands that are decided together, and their accounts, which no other batch may share meanwhile.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) items: Vec<T>,
    /// Each once.
    pub(super) accounts: Vec<AccountId>,
}

impl<T> Claims<T> {
    pub(super) fn new() -> Self {
        Self { next_ticket: 0, ready: Vec::new(), waiting: BTreeMap::new(), accounts: HashMap::default() }
    }

    /// How many commands have not left yet.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.waiting.len()
    }

    /// How many commands may be decided now.
    pub(super) const fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn admit(&mut self, parties: Parties, item: T) {
        if parties.all().all(|account| !self.accounts.contains_key(&account)) {
            self.ready.push((parties, item));
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        for account in parties.all() {
            self.accounts.entry(account).or_default().tickets.push_back(ticket);
        }
        self.waiting.insert(ticket, (parties, item));
    }

    /// Takes all ready commands, and marks their accounts as in a batch until [`Claims::finished`].
    pub(super) fn take_batch(&mut self) -> Option<Batch<T>> {
        if self.ready.is_empty() {
            return None;
        }
        let commands = self.ready.len();
        let mut batch = Batch { items: Vec::with_capacity(commands), accounts: Vec::with_capacity(commands) };
        for (parties, item) in self.ready.drain(..) {
            for account in parties.all() {
                let claim = self.accounts.entry(account).or_default();
                // A ready command has no account in another batch, so an account in a batch is in this one.
                if !mem::replace(&mut claim.in_batch, true) {
                    batch.accounts.push(account);
                }
            }
            batch.items.push(item);
        }
        Some(batch)
    }

    /// The batch with these accounts has ended: commands that waited for them may be ready now.
    pub(super) fn finished(&mut self, accounts: Vec<AccountId>) {
        for account in &accounts {
            if let Some(claim) = self.accounts.get_mut(account) {
                claim.in_batch = false;
            }
        }
        let mut freed = VecDeque::from(accounts);
        while let Some(account) = freed.pop_front() {
            // A transfer that becomes ready may have been ahead of others at its second account.
            while let Some(second) = self.release_front(account) {
                freed.extend(second.all().filter(|other| *other != account));
            }
        }
    }

    /// Makes the first command in an account's queue ready if it is first in all its queues, and returns its accounts.
    fn release_front(&mut self, account: AccountId) -> Option<Parties> {
        let claim = self.accounts.get(&account).filter(|claim| !claim.in_batch)?;
        let Some(&ticket) = claim.tickets.front() else {
            self.accounts.remove(&account);
            return None;
        };
        let parties = self.waiting.get(&ticket)?.0;
        let at_front = |account: AccountId| {
            self.accounts.get(&account).is_some_and(|claim| !claim.in_batch && claim.tickets.front() == Some(&ticket))
        };
        if !parties.all().all(at_front) {
            return None;
        }
        for account in parties.all() {
            if let Some(claim) = self.accounts.get_mut(&account) {
                claim.tickets.pop_front();
            }
        }
        self.ready.extend(self.waiting.remove(&ticket));
        Some(parties)
    }

    /// All commands that have not left, in no particular order, to be answered at the end.
    pub(super) fn into_rest(self) -> impl Iterator<Item = T> {
        self.ready.into_iter().chain(self.waiting.into_values()).map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Admit(u8, Option<u8>),
        Take,
        Finish(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4_u8, proptest::option::of(0..4_u8)).prop_map(|(first, second)| Step::Admit(first, second)),
            2 => Just(Step::Take),
            1 => any::<usize>().prop_map(Step::Finish),
        ]
    }

    struct Model {
        claims: Claims<(usize, Parties)>,
        under_way: Vec<Batch<(usize, Parties)>>,
        left: Vec<(usize, Parties)>,
        admitted: usize,
    }

    impl Model {
        fn take(&mut self) {
            let Some(batch) = self.claims.take_batch() else { return };
            for other in &self.under_way {
                assert!(other.accounts.iter().all(|account| !batch.accounts.contains(account)), "CL1");
            }
            assert_eq!(batch.accounts.iter().collect::<BTreeSet<_>>().len(), batch.accounts.len(), "an account twice");
            self.left.extend(&batch.items);
            self.under_way.push(batch);
        }

        fn finish(&mut self, which: usize) {
            if !self.under_way.is_empty() {
                let batch = self.under_way.remove(which % self.under_way.len());
                self.claims.finished(batch.accounts);
            }
        }
    }

    proptest! {
        #[test]
        fn accounts_are_never_shared_order_is_kept_and_nothing_is_left_behind(
            steps in proptest::collection::vec(step(), 1..120)
        ) {
            let mut model = Model { claims: Claims::new(), under_way: Vec::new(), left: Vec::new(), admitted: 0 };
            for step in steps {
                match step {
                    Step::Admit(first, second) => {
                        let id = |number| AccountId::from_bytes([number; 16]);
                        let parties = Parties::new(id(first), second.map(id));
                        model.claims.admit(parties, (model.admitted, parties));
                        model.admitted += 1;
                    }
                    Step::Take => model.take(),
                    Step::Finish(which) => model.finish(which),
                }
            }
            while model.claims.len() > 0 || !model.under_way.is_empty() {
                let before = (model.claims.len(), model.under_way.len());
                model.take();
                model.finish(0);
                prop_assert_ne!(before, (model.claims.len(), model.under_way.len()), "CL3");
            }
            prop_assert_eq!(model.left.len(), model.admitted);
            prop_assert!(model.claims.accounts.is_empty(), "claims of idle accounts stay behind");
            for account in 0..4 {
                let account = AccountId::from_bytes([account; 16]);
                let of_account = |(_, parties): &&(usize, Parties)| parties.all().any(|party| party == account);
                prop_assert!(model.left.iter().filter(of_account).is_sorted_by_key(|(number, _)| *number), "CL2");
            }
        }
    }
}
