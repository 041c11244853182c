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
    /// It takes commands.
    Open,
    /// It is closed for good.
    Closed,
}

/// An account at a version: the fold of that many events of its stream.
///
/// Snapshots hold it as JSON; [`Account::SCHEMA`] identifies the shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id, which is also its stream's.
    pub id: AccountId,
    /// How many events were folded.
    pub version: Version,
    /// Who owns it.
    pub owner: Owner,
    /// Its only currency.
    pub currency: Currency,
    /// The money in it.
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
    /// The number of this shape in snapshots; increment it when the fields change, or how an event changes them. Its
    /// golden file, `golden/account.<number>.json`, has an account after an event of every type.
    pub const SCHEMA: u16 = 1;

    /// The version of an account that may not exist.
    #[must_use]
    pub fn version_of(account: Option<&Self>) -> Version {
        account.map_or(Version::EMPTY, |account| account.version)
    }
}
