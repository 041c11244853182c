use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::id::{AccountId, EventId};
use crate::money::{Currency, Money};
use crate::owner::Owner;

/// Whether anything may still happen to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccountStatus {
    /// Money moves.
    Open,
    /// Nothing moves any more.
    Closed,
}

impl AccountStatus {
    /// The status as written in documents and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
        }
    }
}

/// The document of one account: the fold of its events 1 ..= `version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// The account; the document's id.
    pub id: AccountId,
    /// The last event folded in.
    pub event_id: EventId,
    /// Whose account it is.
    pub owner: Owner,
    /// Whether it is open.
    pub status: AccountStatus,
    /// The one currency of the account.
    pub currency: Currency,
    /// What is on it, in minor units.
    pub balance: Money,
    /// How many events are folded in.
    pub version: Version,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When the last event happened.
    pub updated_at: Timestamp,
}

impl Balance {
    /// How many events a document has folded in: none if there is no document.
    #[must_use]
    pub fn version_of(balance: Option<&Self>) -> Version {
        balance.map_or(Version::EMPTY, |balance| balance.version)
    }
}
