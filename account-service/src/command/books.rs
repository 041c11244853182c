//! What a batch knows of its accounts.
//!
//! Each page is a prefix of a stream. It is *certain* if it was read, or proved by an append, since the batch began; a
//! refusal may be based on certain pages only.

use std::collections::HashMap;

use shared::coordinate::Version;
use shared::id::AccountId;

use super::cache::AccountCache;
use super::desk::Desk;
use super::hash::IdHash;
use super::load::{Loaded, NotLoaded};
use super::snapshots;
use crate::account::{Account, Command};

#[derive(Debug, Default)]
pub(super) struct Books {
    /// Iterated over in the order of their hash, which is the same in every run.
    pages: HashMap<AccountId, Page, IdHash>,
}

#[derive(Debug)]
struct Page {
    /// The account as far as it is known; `None` if nothing is, if it was never opened, or if it could not be loaded.
    known: Option<Account>,
    /// The version that was known when the batch began, in memory or as a snapshot.
    from: Version,
    /// Whether nothing was known in memory and so much was read that a snapshot is due.
    is_long_read: bool,
    /// Whether a refusal may be based on it.
    certain: bool,
    /// Whether the next round reads on.
    behind: bool,
    /// Why its commands cannot be decided, if the account could not be loaded.
    not_loaded: Option<NotLoaded>,
}

impl Books {
    /// Opens the pages of a command's accounts, filled from the cache where it has them.
    pub(super) fn open(&mut self, command: &Command, cache: &AccountCache) {
        for account in command.accounts() {
            self.pages.entry(account).or_insert_with(|| {
                let known = cache.get(account);
                // The id of an account to be opened is newly generated: the append proves that no other account has it.
                let opens = matches!(command, Command::Open { .. });
                let (from, behind) = (Account::version_of(known.as_ref()), known.is_none() && !opens);
                Page { known, from, is_long_read: false, certain: false, behind, not_loaded: None }
            });
        }
    }

    /// The accounts to load, with what is known of them.
    pub(super) fn to_load(&self) -> impl Iterator<Item = (AccountId, Option<Account>)> {
        self.pages.iter().filter(|(_, page)| page.behind).map(|(id, page)| (*id, page.known.clone()))
    }

    /// Brings the pages up to date with what was loaded.
    pub(super) fn update(&mut self, loaded: Vec<Loaded>) {
        for Loaded { id, account, from } in loaded {
            let Some(page) = self.pages.get_mut(&id) else { continue };
            if page.known.is_none() {
                let version = account.as_ref().map_or(from, |account| Account::version_of(account.as_ref()));
                page.is_long_read = snapshots::is_due_when_read(from, version);
                page.from = from;
            }
            page.not_loaded = account.as_ref().err().copied();
            page.known = account.unwrap_or_default();
            page.certain = true;
            page.behind = false;
        }
    }

    pub(super) fn account(&self, id: AccountId) -> Option<&Account> {
        self.pages.get(&id).and_then(|page| page.known.as_ref())
    }

    /// Why the account's commands cannot be decided, if it could not be loaded.
    pub(super) fn check_loaded(&self, id: AccountId) -> Result<(), NotLoaded> {
        self.pages.get(&id).and_then(|page| page.not_loaded).map_or(Ok(()), Err)
    }

    pub(super) fn is_certain(&self, id: AccountId) -> bool {
        self.pages.get(&id).is_some_and(|page| page.certain)
    }

    /// Takes over accounts whose state an append has proved.
    pub(super) fn confirm(&mut self, accounts: Vec<Account>) {
        for account in accounts {
            if let Some(page) = self.pages.get_mut(&account.id) {
                page.known = Some(account);
                page.certain = true;
                page.behind = false;
            }
        }
    }

    /// The account may have events that are not known: the next round reads on.
    pub(super) fn doubt(&mut self, id: AccountId) {
        if let Some(page) = self.pages.get_mut(&id) {
            page.certain = false;
            page.behind = true;
        }
    }

    /// Keeps the known accounts for later batches, and requests the snapshots that are due.
    pub(super) fn keep<S>(self, desk: &Desk<S>) {
        for page in self.pages.into_values() {
            let Some(account) = page.known else { continue };
            if page.is_long_read || snapshots::is_due(page.from, account.version) {
                desk.request_snapshot(&account);
            }
            desk.cache.insert(account);
        }
    }
}
