//! What is written: deposits as the bank writes them, to accounts in turn.

use shared::clock::{Clock, Timestamp};
use shared::coordinate::Version;
use shared::event::{AccountEvent, EncodedEvents, NewEvent, codec};
use shared::id::{AccountId, Ids};
use shared::money::Amount;

/// An endless sequence of deposits to accounts of its own.
pub(super) struct Deposits {
    accounts: Vec<AccountId>,
    /// How many were made.
    count: usize,
    clock: Clock,
    ids: Ids,
}

/// One deposit.
pub(super) struct Deposit {
    pub(super) account: AccountId,
    pub(super) version: Version,
    pub(super) time: Timestamp,
    pub(super) events: EncodedEvents,
}

impl Deposits {
    pub(super) fn new(accounts: usize, clock: &Clock, ids: &Ids) -> Self {
        let accounts = (0..accounts).map(|_| ids.account()).collect();
        Self { accounts, count: 0, clock: clock.clone(), ids: ids.clone() }
    }

    pub(super) fn next(&mut self) -> Deposit {
        let account = self.accounts[self.count % self.accounts.len()];
        let version = Version::new(1 + (self.count / self.accounts.len()) as u64);
        self.count += 1;
        let (time, transaction) = (self.clock.now(), self.ids.commit());
        let event = AccountEvent::MoneyDeposited { transaction, amount: Amount::new(1).expect("a cent is an amount") };
        let events = codec::encode(&[NewEvent { id: self.ids.event(), time, event }]);
        Deposit { account, version, time, events }
    }
}
