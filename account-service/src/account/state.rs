use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::id::AccountId;
use shared::money::{Currency, Money};
use shared::owner::Owner;

/// Whether an account takes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// It does.
    Open,
    /// It is closed for good.
    Closed,
}

/// An account at a version: the fold of that many events of its stream.
///
/// Its JSON is what snapshots hold; [`Account::SCHEMA`] names the shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id, and its stream's.
    pub id: AccountId,
    /// How many events were folded.
    pub version: Version,
    /// Whose account it is.
    pub owner: Owner,
    /// Its one currency.
    pub currency: Currency,
    /// What is on it.
    pub balance: Money,
    /// How far below zero the balance may go; never negative.
    pub overdraft_limit: Money,
    /// Whether it takes commands.
    pub status: Status,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When its last event was decided.
    pub updated_at: Timestamp,
}

impl Account {
    /// The number of this shape in snapshots; a change of the fields, or of what an event does to them, takes the next.
    pub const SCHEMA: u16 = 1;

    /// The version of an account that may not exist.
    #[must_use]
    pub fn version_of(account: Option<&Self>) -> Version {
        account.map_or(Version::EMPTY, |account| account.version)
    }
}
