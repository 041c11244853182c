//! What can happen to an account, in the past tense.
//!
//! Personal data is kept apart, in [`Personal`], so that it can be erased without touching a sum.
//!
//! `CONTRIBUTING.md`, "To add an event", lists what else changes with a new variant of [`AccountEvent`].

pub mod codec;
mod recorded;

use serde::{Deserialize, Serialize};

pub use recorded::{EncodedEvents, NewEvent, Recorded, StreamAfter};

use crate::id::{AccountId, CommitId};
use crate::money::{Amount, Currency, Money};
use crate::owner::Owner;

/// What identifies a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personal {
    /// The owner's name.
    pub owner: Owner,
}

/// A fact about one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AccountEvent {
    /// The account exists from here on, with `opening` on it; it may be overdrawn down to minus `overdraft_limit`.
    AccountOpened {
        /// The one currency of the account.
        currency: Currency,
        /// How far below zero the balance may go; never negative.
        overdraft_limit: Money,
        /// The first balance; never negative.
        opening: Money,
        /// Whose account it is.
        personal: Personal,
    },
    /// Money came in from outside the bank.
    MoneyDeposited {
        /// The customer's transaction.
        transaction: CommitId,
        /// How much.
        amount: Amount,
    },
    /// Money left the bank.
    MoneyWithdrawn {
        /// The customer's transaction.
        transaction: CommitId,
        /// How much.
        amount: Amount,
    },
    /// Money went to another account, which holds the matching [`AccountEvent::TransferReceived`] of the same commit.
    TransferSent {
        /// The customer's transaction.
        transaction: CommitId,
        /// The receiving account.
        to: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Money came from another account, which holds the matching [`AccountEvent::TransferSent`] of the same commit.
    TransferReceived {
        /// The customer's transaction.
        transaction: CommitId,
        /// The sending account.
        from: AccountId,
        /// How much.
        amount: Amount,
    },
    /// The owner's name has changed.
    OwnerRenamed {
        /// The new name.
        personal: Personal,
    },
    /// The account is closed; nothing happens to it after this.
    AccountClosed {},
}

impl AccountEvent {
    /// The name of the event's type, as stored and published.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::AccountOpened { .. } => "AccountOpened",
            Self::MoneyDeposited { .. } => "MoneyDeposited",
            Self::MoneyWithdrawn { .. } => "MoneyWithdrawn",
            Self::TransferSent { .. } => "TransferSent",
            Self::TransferReceived { .. } => "TransferReceived",
            Self::OwnerRenamed { .. } => "OwnerRenamed",
            Self::AccountClosed {} => "AccountClosed",
        }
    }

    /// The schema number in which the event is written today.
    #[must_use]
    pub const fn schema(&self) -> u16 {
        match self {
            Self::AccountOpened { .. } => 2,
            Self::MoneyDeposited { .. }
            | Self::MoneyWithdrawn { .. }
            | Self::TransferSent { .. }
            | Self::TransferReceived { .. }
            | Self::OwnerRenamed { .. }
            | Self::AccountClosed {} => 1,
        }
    }
}
