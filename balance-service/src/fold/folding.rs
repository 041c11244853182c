//! The fold of one account over writes as they come: repeats, gaps and poison (laws D1 to D3).

use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::event::{Recorded, codec};
use shared::id::AccountId;
use shared::index::{Balance, Parked, Projected};

use super::fold;

/// The result of giving a write to a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All of it is now in the balance, or already was.
    Folded,
    /// It does not follow the balance: the events in between must come from the store first.
    Gap,
    /// It cannot be folded, or the account is parked: no more events are folded.
    Stuck,
}

/// One account being folded: its version in the index, its balance now, and whether it is stuck.
#[derive(Clone, Debug)]
pub struct Folding {
    account: AccountId,
    balance: Option<Balance>,
    /// The version of the document in the index, so that a fold that has not advanced writes nothing.
    written: Version,
    /// The last version that may be folded.
    limit: Version,
    /// The version that could not be folded, and why.
    poison: Option<(Version, String)>,
}

impl Folding {
    /// An account with this document in the index.
    #[must_use]
    pub fn new(account: AccountId, balance: Option<Balance>) -> Self {
        let written = Balance::version_of(balance.as_ref());
        Self { account, balance, written, limit: Version::MAX, poison: None }
    }

    /// An account that is parked in the index at this version: until it is retried, only earlier events are folded.
    #[must_use]
    pub fn parked(account: AccountId, balance: Option<Balance>, at: Version) -> Self {
        Self { limit: at.before(), ..Self::new(account, balance) }
    }

    /// An account that is folded from its first event, but only up to version `until`.
    #[must_use]
    pub fn up_to(account: AccountId, until: Version) -> Self {
        Self { limit: until, ..Self::new(account, None) }
    }

    /// How many events are in the balance.
    #[must_use]
    pub fn version(&self) -> Version {
        Balance::version_of(self.balance.as_ref())
    }

    /// The balance as it stands.
    #[must_use]
    pub const fn balance(&self) -> Option<&Balance> {
        self.balance.as_ref()
    }

    /// Whether the account takes no more events.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.version() >= self.limit || self.poison.is_some()
    }

    /// The first version that could not be folded, and why, if this fold found it.
    #[must_use]
    pub const fn poison(&self) -> Option<&(Version, String)> {
        self.poison.as_ref()
    }

    /// Folds a write (laws D1 to D3).
    pub fn take(&mut self, recorded: &Recorded) -> Taken {
        self.take_until(recorded, Version::MAX)
    }

    /// Folds a write, but no event above the version `until`.
    pub fn take_until(&mut self, recorded: &Recorded, until: Version) -> Taken {
        if self.is_stuck() {
            return Taken::Stuck;
        }
        let version = self.version();
        if recorded.last_version() <= version {
            return Taken::Folded;
        }
        if recorded.first_version > version.next() {
            return Taken::Gap;
        }
        match self.fold_events(recorded, version, until.min(self.limit)) {
            Ok(()) if self.version() < self.limit => Taken::Folded,
            Ok(()) => Taken::Stuck,
            Err(reason) => {
                self.poison = Some((self.version().next(), reason));
                Taken::Stuck
            }
        }
    }

    fn fold_events(&mut self, recorded: &Recorded, version: Version, until: Version) -> Result<(), String> {
        let events = codec::decode(&recorded.events).map_err(|error| error.to_string())?;
        let known = version.get() + 1 - recorded.first_version.get();
        let wanted = usize::try_from(until.get().saturating_sub(version.get())).unwrap_or(usize::MAX);
        for event in events.iter().skip(usize::try_from(known).unwrap_or(usize::MAX)).take(wanted) {
            self.balance = Some(fold(self.balance.as_ref(), self.account, event).map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    /// The document to write, if the fold advanced.
    #[must_use]
    pub fn into_changed(self) -> Option<Balance> {
        let written = self.written;
        self.balance.filter(|balance| balance.version > written)
    }

    /// The entry to park the account with, if this fold found a poison event.
    #[must_use]
    pub fn to_parked(&self, since: Timestamp) -> Option<Parked> {
        let (at, reason) = self.poison.clone()?;
        Some(Parked { account: self.account, at, reason, since })
    }
}

/// What to write of these accounts: the balances that advanced, and the accounts that a poison event parks.
pub(crate) fn projected(foldings: impl IntoIterator<Item = Folding>, since: Timestamp) -> Projected {
    let mut projected = Projected::default();
    for folding in foldings {
        projected.parked.extend(folding.to_parked(since));
        projected.balances.extend(folding.into_changed());
    }
    projected
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use shared::event::{AccountEvent, EncodedEvents, NewEvent, Personal};
    use shared::id::{CommitId, EventId};
    use shared::money::{Amount, Money};
    use shared::owner::Owner;

    const ACCOUNT: AccountId = AccountId::from_bytes([9; 16]);

    fn new(number: u64, event: AccountEvent) -> NewEvent {
        NewEvent { id: EventId::from_number(number.into()), time: Timestamp::from_micros(1_000_000), event }
    }

    fn opened() -> AccountEvent {
        AccountEvent::AccountOpened {
            currency: "EUR".parse().unwrap(),
            overdraft_limit: Money::ZERO,
            opening: Money::ZERO,
            personal: Personal { owner: Owner::new("Paulo").unwrap() },
        }
    }

    fn deposited(amount: i64) -> AccountEvent {
        let transaction = CommitId::from_bytes([1; 16]);
        AccountEvent::MoneyDeposited { transaction, amount: Amount::new(amount).unwrap() }
    }

    fn recorded(first: u64, events: &[AccountEvent]) -> Recorded {
        let events: Vec<NewEvent> = events.iter().zip(first..).map(|(event, n)| new(n, event.clone())).collect();
        let time = Timestamp::from_micros(1_000_000);
        Recorded { stream: ACCOUNT, first_version: Version::new(first), time, events: codec::encode(&events) }
    }

    #[test]
    fn a_gap_is_not_folded_over() {
        let mut folding = Folding::new(ACCOUNT, None);
        assert_eq!(folding.take(&recorded(2, &[deposited(5)])), Taken::Gap);
        assert_eq!(folding.version(), Version::EMPTY);
    }

    #[test]
    fn an_event_that_cannot_be_read_leaves_the_balance_where_it_was_and_holds_back_what_follows() {
        let mut folding = Folding::new(ACCOUNT, None);
        assert_eq!(folding.take(&recorded(1, &[opened()])), Taken::Folded);
        let json = br#"[{"id":"000000000000000000000000000000000000001","type":"MoneyMinted","schema":7,"time":"2026-01-01T00:00:00Z","data":{}}]"#;
        let unreadable = EncodedEvents { count: 1, json: Bytes::from_static(json) };
        let unreadable = Recorded { events: unreadable, ..recorded(2, &[deposited(1)]) };
        assert_eq!(folding.take(&unreadable), Taken::Stuck);
        assert_eq!(folding.take(&recorded(3, &[deposited(1)])), Taken::Stuck);
        assert_eq!(folding.version(), Version::new(1));
        let parked = folding.to_parked(Timestamp::EPOCH).unwrap();
        assert_eq!(parked.at, Version::new(2));
        assert!(parked.reason.contains("MoneyMinted"), "{}", parked.reason);
    }

    #[test]
    fn a_second_opening_and_a_sum_out_of_range_are_poison() {
        for poison in [opened(), deposited(shared::money::MONEY_MAX)] {
            let mut folding = Folding::new(ACCOUNT, None);
            folding.take(&recorded(1, &[opened(), deposited(7)]));
            assert_eq!(folding.take(&recorded(3, &[poison])), Taken::Stuck);
            assert_eq!(folding.balance().unwrap().balance, Money::new(7).unwrap());
        }
    }

    proptest! {
        /// However writes are repeated, split or delivered again from an earlier place, the balance at version k is the
        /// fold of the first k events.
        #[test]
        fn repeats_and_overlaps_change_nothing(
            amounts in prop::collection::vec(1_i64..1_000, 1..20),
            deliveries in prop::collection::vec((0_usize..20, 1_usize..5), 1..60),
        ) {
            let mut events = vec![opened()];
            events.extend(amounts.iter().map(|amount| deposited(*amount)));
            let mut folding = Folding::new(ACCOUNT, None);
            for (start, count) in deliveries {
                let start = start.min(events.len() - 1);
                let end = (start + count).min(events.len());
                let before = folding.version();
                let taken = folding.take(&recorded(start as u64 + 1, &events[start..end]));
                let follows = start as u64 <= before.get();
                prop_assert_eq!(taken, if follows { Taken::Folded } else { Taken::Gap });
                let version = usize::try_from(folding.version().get()).unwrap();
                let sum: i64 = amounts[..version.saturating_sub(1)].iter().sum();
                prop_assert_eq!(folding.balance().map_or(0, |balance| balance.balance.get()), sum);
                if follows {
                    prop_assert_eq!(version, end.max(usize::try_from(before.get()).unwrap()));
                }
            }
        }
    }
}
