//! How often memory is allocated for one event, in the pure code that every event passes through.
//!
//! Counted and not timed, so a busy machine gives the same result. Each bound says what the memory is for.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::hint::black_box;

use account_service::account::{Account, Command, decide};
use allocation_counter::measure;
use balance_service::fold::{Folding, Taken};
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent, Personal, Recorded, codec};
use shared::id::{AccountId, CommitId, Ids};
use shared::money::{Amount, Money};
use shared::owner::Owner;

/// An account that was opened, and a deposit into it.
struct Deposit {
    id: AccountId,
    transaction: CommitId,
    command: Command,
    opening: NewEvent,
    event: NewEvent,
}

impl Deposit {
    fn new() -> Self {
        let ids = Ids::new(Clock::system());
        let (id, transaction, amount) = (ids.account(), ids.commit(), Amount::new(250).unwrap());
        let new = |event| NewEvent { id: ids.event(), time: Timestamp::EPOCH, event };
        let opening = AccountEvent::AccountOpened {
            currency: "EUR".parse().unwrap(),
            overdraft_limit: Money::ZERO,
            opening: Money::ZERO,
            personal: Personal { owner: Owner::new("Paulo").unwrap() },
        };
        let event = AccountEvent::MoneyDeposited { transaction, amount };
        let command = Command::Deposit { account: id, amount };
        Self { id, transaction, command, opening: new(opening), event: new(event) }
    }

    fn account(&self) -> Account {
        Account::evolve(None, self.id, &self.opening.event, Timestamp::EPOCH).unwrap()
    }

    /// The first event as it is stored, and the second.
    fn recorded(&self) -> [Recorded; 2] {
        [(1, &self.opening), (2, &self.event)].map(|(version, event)| Recorded {
            stream: self.id,
            first_version: Version::new(version),
            time: Timestamp::EPOCH,
            events: codec::encode(std::slice::from_ref(event)),
        })
    }
}

#[track_caller]
fn asks_at_most(most: u64, work: impl FnOnce()) {
    let count = measure(work).count_total;
    assert!(count <= most, "memory was asked for {count} times, at most {most}");
}

/// The counter works: otherwise every bound would hold.
#[test]
fn what_is_asked_for_is_counted() {
    assert_eq!(measure(|| drop(black_box(Box::new(1_u8)))).count_total, 1);
    assert_eq!(measure(|| ()).count_total, 0);
}

/// The list of the events it leads to.
#[test]
fn deciding_a_command_asks_once() {
    let deposit = Deposit::new();
    let account = deposit.account();
    asks_at_most(1, || drop(decide(&deposit.command, deposit.transaction, |_| Some(&account)).unwrap()));
}

/// The owner's name is stored in the account, or shared by all of its states.
#[test]
fn evolving_an_account_asks_for_nothing() {
    let deposit = Deposit::new();
    let account = deposit.account();
    asks_at_most(0, || {
        let before = Some(account.clone());
        drop(Account::evolve(before, deposit.id, &deposit.event.event, Timestamp::EPOCH).unwrap());
    });
}

/// The JSON and the count of its owners.
#[test]
fn encoding_an_event_asks_twice() {
    let deposit = Deposit::new();
    for event in [&deposit.opening, &deposit.event] {
        asks_at_most(2, || drop(codec::encode(std::slice::from_ref(event))));
    }
}

/// Two lists; for an opening the normalized name of the owner too.
#[test]
fn decoding_an_event_asks_twice_and_an_opening_three_times() {
    let [opening, event] = Deposit::new().recorded();
    asks_at_most(3, || drop(codec::decode(&opening.events).unwrap()));
    asks_at_most(2, || drop(codec::decode(&event.events).unwrap()));
}

/// The allocations of decoding it.
#[test]
fn folding_an_event_asks_no_more_than_decoding_it() {
    let deposit = Deposit::new();
    let [opening, event] = deposit.recorded();
    let mut folding = Folding::new(deposit.id, None);
    assert_eq!(folding.take(&opening), Taken::Folded);
    asks_at_most(2, || assert_eq!(folding.take(&event), Taken::Folded));
    assert_eq!(folding.version(), Version::new(2));
}

/// Events that wait in batches share their bytes.
#[test]
fn handing_an_event_on_asks_for_nothing() {
    let [_, event] = Deposit::new().recorded();
    asks_at_most(0, || drop(event.clone()));
}
