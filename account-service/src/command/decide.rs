//! Decides a batch in memory, each command on the accounts as the ones before it left them.

use std::collections::{BTreeSet, HashMap, HashSet};

use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent, codec};
use shared::id::{AccountId, Ids};
use shared::store::{Commit, IdempotencyKey, StreamWrite};

use super::books::Books;
use super::hash::IdHash;
use super::job::Pending;
use super::receipt::AccountAfter;
use super::{CommandError, Receipt, Request};
use crate::account::{self, Account, Command, Decided};

/// The decision on one command of a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The nth accepted verdict belongs to the nth commit.
    Accepted(Accepted),
    /// The reason for refusing it, as far as the accounts are known.
    Refused(CommandError),
    /// An accepted command before it has the same key: the outcome of that one answers both.
    SameKey,
    /// An earlier command at one of its accounts has to be decided again, and so has this one (law T4).
    AfterDoubted,
}

/// The effect of an accepted command if its commit is taken.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) receipt: Receipt,
    pub(super) after: Vec<Account>,
}

/// The verdicts in the order of the commands, and the commits of the accepted ones.
#[derive(Debug)]
pub(super) struct Decisions {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) commits: Vec<Commit>,
}

pub(super) fn decide_batch(books: &Books, pending: &[Pending], time: Timestamp, ids: &Ids) -> Decisions {
    let written = HashMap::with_capacity_and_hasher(pending.len(), IdHash::default());
    let mut draft = Draft { books, time, ids, written, doubted: HashSet::default() };
    let mut keys: BTreeSet<&IdempotencyKey> = BTreeSet::new();
    let commands = pending.len();
    let mut decisions = Decisions { verdicts: Vec::with_capacity(commands), commits: Vec::with_capacity(commands) };
    for pending in pending {
        let command = &pending.request.command;
        let key = pending.request.key.as_ref().map(|keyed| &keyed.key);
        let verdict = if key.is_some_and(|key| keys.contains(key)) {
            Verdict::SameKey
        } else if draft.is_doubted(command) {
            draft.doubt(command);
            Verdict::AfterDoubted
        } else {
            match draft.decide(pending) {
                Ok((accepted, commit)) => {
                    keys.extend(key);
                    decisions.commits.push(commit);
                    Verdict::Accepted(accepted)
                }
                Err(error) => {
                    if error.is_of_a_state() && !draft.has_ground_to_refuse(command) {
                        draft.doubt(command);
                    }
                    Verdict::Refused(error)
                }
            }
        };
        decisions.verdicts.push(verdict);
    }
    decisions
}

/// The accounts as they will be if everything decided so far is taken.
struct Draft<'a> {
    books: &'a Books,
    time: Timestamp,
    ids: &'a Ids,
    written: HashMap<AccountId, Account, IdHash>,
    /// The accounts of commands that have to be decided again, which later commands at them must not overtake.
    doubted: HashSet<AccountId, IdHash>,
}

impl Draft<'_> {
    fn is_doubted(&self, command: &Command) -> bool {
        command.accounts().any(|account| self.doubted.contains(&account))
    }

    fn doubt(&mut self, command: &Command) {
        self.doubted.extend(command.accounts());
    }

    /// Whether a refusal stands if the commands before it are taken. If one of them is not, the store takes nothing
    /// that follows it at the same account either (law S5). What follows a transfer at its other account is then taken:
    /// the exception that the laws of commands name.
    fn has_ground_to_refuse(&self, command: &Command) -> bool {
        command.accounts().all(|account| self.books.is_certain(account) || self.written.contains_key(&account))
    }

    fn account(&self, id: AccountId) -> Option<&Account> {
        self.written.get(&id).or_else(|| self.books.account(id))
    }

    fn decide(&mut self, pending: &Pending) -> Result<(Accepted, Commit), CommandError> {
        let Request { command, key, if_match } = &pending.request;
        command.accounts().try_for_each(|account| self.books.check_loaded(account))?;
        self.check_version(command, *if_match)?;
        let decided = account::decide(command, pending.commit, |id| self.account(id))?;
        let (writes, after) = self.write(decided)?;
        let receipt = receipt_of(command, &after)?;
        let commit =
            Commit { id: pending.commit, time: self.time, key: key.clone(), receipt: receipt.to_bytes(), writes };
        self.written.extend(after.iter().map(|account| (account.id, account.clone())));
        Ok((Accepted { receipt, after }, commit))
    }

    fn check_version(&self, command: &Command, if_match: Option<Version>) -> Result<(), CommandError> {
        let Some(expected) = if_match else { return Ok(()) };
        let account = command.account();
        let actual = Account::version_of(self.account(account));
        // If the account does not exist, a rejection tells the customer more than a version mismatch.
        let rules_tell_more = actual == Version::EMPTY && !matches!(command, Command::Open { .. });
        if actual == expected || rules_tell_more {
            return Ok(());
        }
        Err(CommandError::VersionMismatch { account, expected, actual })
    }

    fn write(&self, decided: Decided) -> Result<(Vec<StreamWrite>, Vec<Account>), CommandError> {
        let mut writes = Vec::with_capacity(decided.len());
        let mut after = Vec::with_capacity(decided.len());
        for (stream, event) in decided {
            let before = self.account(stream);
            let expected = Account::version_of(before);
            after.push(self.evolve(before.cloned(), stream, &event)?);
            let events = codec::encode(&[NewEvent { id: self.ids.event(), time: self.time, event }]);
            writes.push(StreamWrite { stream, expected, events });
        }
        Ok((writes, after))
    }

    fn evolve(
        &self,
        before: Option<Account>,
        stream: AccountId,
        event: &AccountEvent,
    ) -> Result<Account, CommandError> {
        Account::evolve(before, stream, event, self.time).map_err(|_| CommandError::Unreadable)
    }
}

fn receipt_of(command: &Command, after: &[Account]) -> Result<Receipt, CommandError> {
    let mut after = after.iter().map(AccountAfter::from);
    let account = after.next().ok_or(CommandError::Unreadable)?;
    Ok(Receipt::new(command, account, after.next()))
}
