//! Which waiting commands may be decided now.
//!
//! CL1  Two unfinished batches never share an account.
//! CL2  The commands of one account leave in the order they came.
//! CL3  A command is ready as soon as all of its accounts are free, no other command is ahead of it, and there is room
//!      in the next batch. The dispatch chooses when ready commands leave.
//!
//! The ready commands fit into one batch; those that wait have a bound of their own, beyond which they are not taken
//! in. So commands whose account is in a batch that hangs never take the room of those whose accounts are free.
//!
//! A command for an account that is in an unfinished batch queues for that account, a transfer for both of its
//! accounts. It becomes ready when it is at the front of each of its queues. A queue that could go on when a batch is
//! full goes on when that batch leaves. No command waits for ever: the oldest waiting one is at the front of all its
//! queues and waits only for batches, which end.

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
    ready_max: usize,
    waiting_max: usize,
    next_ticket: u64,
    ready: Vec<(Parties, T)>,
    waiting: BTreeMap<u64, (Parties, T)>,
    /// Only accounts that are in a batch or waited for; looked up, never iterated over.
    accounts: HashMap<AccountId, Claim, IdHash>,
    /// Accounts whose first waiting command may become ready when there is room.
    freed: VecDeque<AccountId>,
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
    /// No commands. At most `ready_max` will be ready, and at most `waiting_max` wait, at any time.
    pub(super) fn new(ready_max: usize, waiting_max: usize) -> Self {
        let (ready, waiting) = (Vec::new(), BTreeMap::new());
        let (accounts, freed) = (HashMap::default(), VecDeque::new());
        Self { ready_max, waiting_max, next_ticket: 0, ready, waiting, accounts, freed }
    }

    /// How many commands have not left yet.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.waiting.len()
    }

    /// How many commands may be decided now.
    pub(super) const fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many commands may be admitted now, since each of them may be ready.
    pub(super) const fn room(&self) -> usize {
        self.ready_max - self.ready.len()
    }

    /// Takes a command in, or returns it if it would have to wait and no more may.
    pub(super) fn admit(&mut self, parties: Parties, item: T) -> Result<(), T> {
        if parties.all().all(|account| !self.accounts.contains_key(&account)) {
            self.ready.push((parties, item));
            return Ok(());
        }
        if self.waiting.len() >= self.waiting_max {
            return Err(item);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        for account in parties.all() {
            self.accounts.entry(account).or_default().tickets.push_back(ticket);
        }
        self.waiting.insert(ticket, (parties, item));
        Ok(())
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
        self.release();
        Some(batch)
    }

    /// The batch with these accounts has ended: commands that waited for them may be ready now.
    pub(super) fn finished(&mut self, accounts: Vec<AccountId>) {
        for account in &accounts {
            if let Some(claim) = self.accounts.get_mut(account) {
                claim.in_batch = false;
            }
        }
        self.freed.extend(accounts);
        self.release();
    }

    /// Makes commands ready at the accounts that were freed, as many as there is room for.
    fn release(&mut self) {
        while self.room() > 0
            && let Some(&account) = self.freed.front()
        {
            match self.release_front(account) {
                // A transfer that becomes ready may have been ahead of others at its second account.
                Some(parties) => self.freed.extend(parties.all().filter(|other| *other != account)),
                None => {
                    self.freed.pop_front();
                }
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

    /// Few enough to be reached often.
    const READY_MAX: usize = 4;
    const WAITING_MAX: usize = 12;

    struct Model {
        claims: Claims<(usize, Parties)>,
        under_way: Vec<Batch<(usize, Parties)>>,
        left: Vec<(usize, Parties)>,
        admitted: usize,
    }

    impl Model {
        /// Admits a command if there is room, as the dispatch does.
        fn admit(&mut self, first: u8, second: Option<u8>) {
            let id = |number| AccountId::from_bytes([number; 16]);
            let parties = Parties::new(id(first), second.map(id));
            if self.claims.room() == 0 {
                return;
            }
            let is_admitted = self.claims.admit(parties, (self.admitted, parties)).is_ok();
            self.admitted += usize::from(is_admitted);
            let waiting = self.claims.waiting.len();
            assert!(waiting == WAITING_MAX || (waiting < WAITING_MAX && is_admitted), "{waiting} wait");
        }

        fn take(&mut self) {
            let Some(batch) = self.claims.take_batch() else { return };
            assert!(batch.items.len() <= READY_MAX, "a batch is too large");
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
            let claims = Claims::new(READY_MAX, WAITING_MAX);
            let mut model = Model { claims, under_way: Vec::new(), left: Vec::new(), admitted: 0 };
            for step in steps {
                match step {
                    Step::Admit(first, second) => model.admit(first, second),
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
