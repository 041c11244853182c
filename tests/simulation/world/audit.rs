//! Judges every effect. It keeps every account at every version by a fold of its own, and remembers what readers saw.
//!
//! AU1  What clients were told is true: what was acknowledged is in the store as its receipt says, what was refused is
//!      not.
//! AU2  No event, no commit and no order takes effect twice.
//! AU3  Versions have no gap and no duplicate.
//! AU4  Money is conserved: a transfer nets to zero, and the accounts hold what came in minus what went out.
//! AU5  Events are lawful: none leaves a balance below its limit or touches an account that is not open.
//! AU6  A document at version k, like an account that is read, is the fold of events 1 ..= k.
//! AU7  What readers see of an account never goes back.
//! AU8  When the last fault is healed, every document is what the store folds to.
//! AU9  Then exactly those accounts are parked that have an event which cannot be folded.
//!
//! Everything in the simulation is judged by these laws and by those of the services, such as X1 of [`shared::index`].

use std::collections::{BTreeMap, BTreeSet};

use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent, codec};
use shared::id::{AccountId, CommitId, EventId};
use shared::index::Balance;
use shared::store::Commit;

use super::fold::{Account, tell};

/// What the audit remembers.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    accounts: BTreeMap<AccountId, Vec<Account>>,
    /// The first version of an account that cannot be folded.
    poisoned: BTreeMap<AccountId, Version>,
    events: BTreeSet<EventId>,
    commits: BTreeSet<CommitId>,
    /// The highest version that queries could see of an account.
    seen: BTreeMap<AccountId, Version>,
    /// The money that came in from outside, minus what went out.
    outside: i128,
    violation: Option<String>,
    /// Whether any document is accepted: the contract suites write documents that no store holds.
    credulous: bool,
}

impl Audit {
    /// From now on accepts any document and checkpoint.
    pub(crate) const fn believe(&mut self) {
        self.credulous = true;
    }

    /// The first broken law, if any.
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Records a broken law; only the first one counts.
    pub(crate) fn violate(&mut self, law: &str, what: impl FnOnce() -> String) {
        if self.violation.is_none() && !self.credulous {
            self.violation = Some(format!("{law}: {}", what()));
        }
    }

    /// The store takes a commit.
    pub(crate) fn commit(&mut self, commit: &Commit) {
        if !self.commits.insert(commit.id) {
            self.violate("AU2 a commit takes effect once", || commit.id.to_string());
        }
        let mut transferred = BTreeMap::new();
        for write in &commit.writes {
            let Ok(events) = codec::decode(&write.events) else {
                self.poisoned.entry(write.stream).or_insert_with(|| write.expected.next());
                continue;
            };
            for (place, new) in (1..).zip(&events) {
                self.event(write.stream, write.expected.plus(place), new);
                self.weigh(&new.event, &mut transferred);
            }
        }
        for (transaction, net) in transferred {
            if net != 0 {
                self.violate("AU4 a transfer nets to zero", || format!("{transaction} leaves {net}"));
            }
        }
    }

    fn event(&mut self, stream: AccountId, version: Version, new: &NewEvent) {
        if !self.events.insert(new.id) {
            self.violate("AU2 an event id is used once", || new.id.to_string());
        }
        if self.poisoned.contains_key(&stream) {
            return;
        }
        let versions = self.accounts.entry(stream).or_default();
        if versions.len() as u64 != version.before().get() {
            let known = versions.len();
            self.violate("AU3 versions have no gap and no duplicate", || format!("{stream} {version} after {known}"));
            return;
        }
        match tell(stream, versions.last(), new) {
            Ok(next) => versions.push(next),
            Err(wrong) => self.violate("AU5 events are lawful", || format!("{stream} {version}: {wrong}")),
        }
    }

    fn weigh(&mut self, event: &AccountEvent, transferred: &mut BTreeMap<CommitId, i128>) {
        match event {
            AccountEvent::AccountOpened { opening, .. } => self.outside += i128::from(opening.get()),
            AccountEvent::MoneyDeposited { amount, .. } => self.outside += i128::from(amount.get()),
            AccountEvent::MoneyWithdrawn { amount, .. } => self.outside -= i128::from(amount.get()),
            AccountEvent::TransferSent { transaction, amount, .. } => {
                *transferred.entry(*transaction).or_default() -= i128::from(amount.get());
            }
            AccountEvent::TransferReceived { transaction, amount, .. } => {
                *transferred.entry(*transaction).or_default() += i128::from(amount.get());
            }
            AccountEvent::OwnerRenamed { .. } | AccountEvent::AccountClosed {} => {}
        }
    }

    /// A document is written into some generation.
    pub(crate) fn document(&mut self, document: &Balance) {
        let id = document.id;
        let fold = self.at(id, document.version);
        if fold == Some(document) {
            return;
        }
        let expected = fold.map_or_else(|| "nothing".to_owned(), describe);
        self.violate("AU6 a document is the fold of its version", || {
            format!("{id}: written {}, the store says {expected}", describe(document))
        });
    }

    /// Queries see a document.
    pub(crate) fn visible(&mut self, account: AccountId, version: Version) {
        let seen = self.seen.entry(account).or_default();
        if version < *seen {
            let seen = *seen;
            self.violate("AU7 what readers see never goes back", || format!("{account} fell from {seen} to {version}"));
        } else {
            *seen = version;
        }
    }

    /// Queries see another generation, which has exactly these documents.
    pub(crate) fn promoted(&mut self, version_of: impl Fn(AccountId) -> Option<Version>) {
        let fell = self.seen.iter().find(|&(account, seen)| version_of(*account).is_none_or(|version| version < *seen));
        if let Some((account, seen)) = fell {
            let (account, seen) = (*account, *seen);
            let now = version_of(account);
            self.violate("AU7 a promotion hides nothing", || format!("{account} fell from {seen} to {now:?}"));
        }
    }

    /// Somebody deleted what readers could see of an account.
    pub(crate) fn deleted(&mut self, account: AccountId) {
        self.seen.remove(&account);
    }

    /// Somebody deleted everything that readers could see.
    pub(crate) fn deleted_all(&mut self) {
        self.seen.clear();
    }

    /// The last document an account can have, and the version that cannot be folded, if there is one.
    pub(crate) fn last(&self, account: AccountId) -> (Option<&Balance>, Option<Version>) {
        let document = self.accounts.get(&account).and_then(|versions| versions.last());
        (document.map(|account| &account.document), self.poisoned.get(&account).copied())
    }

    /// An account's document at a version.
    pub(crate) fn at(&self, account: AccountId, version: Version) -> Option<&Balance> {
        let index = usize::try_from(version.get().checked_sub(1)?).ok()?;
        self.accounts.get(&account)?.get(index).map(|account| &account.document)
    }

    /// How many commits took effect.
    pub(crate) fn commits(&self) -> usize {
        self.commits.len()
    }

    /// Whether a commit took effect.
    pub(crate) fn has(&self, commit: CommitId) -> bool {
        self.commits.contains(&commit)
    }

    /// The money that came in minus what went out, and the sum of all accounts: equal when no money was created or
    /// lost. A poisoned account hides what happened after its poison, so there is no sum in a run with one.
    pub(crate) fn sums(&self) -> Option<(i128, i128)> {
        let inside = self.accounts.values().filter_map(|versions| versions.last());
        let inside = inside.map(|account| i128::from(account.document.balance.get())).sum();
        self.poisoned.is_empty().then_some((self.outside, inside))
    }
}

fn describe(document: &Balance) -> String {
    let Balance { version, balance, status, event_id, updated_at, .. } = document;
    format!("{version} with {balance} {} by {event_id} at {updated_at}", status.as_str())
}
