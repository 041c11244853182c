//! A document as a row.

use rusqlite::types::Type;
use rusqlite::{Error, Row};

use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::id::{AccountId, EventId};
use crate::index::{AccountStatus, Balance, Generation};
use crate::money::Money;
use crate::owner::Owner;

/// The columns of a document, in the order in which [`balance`] reads them.
pub(super) const COLUMNS: &str = "id, event_id, owner, status, currency, balance, version, opened_at, updated_at";

/// The table of a generation. The name is made of a number alone, so it is safe in a statement.
pub(super) fn table(generation: Generation) -> String {
    format!("balance_{generation}")
}

/// A row of [`COLUMNS`] as a document.
pub(super) fn balance(row: &Row<'_>) -> rusqlite::Result<Balance> {
    Ok(Balance {
        id: AccountId::from_bytes(row.get(0)?),
        event_id: EventId::from_number(u128::from_be_bytes(row.get(1)?)),
        owner: Owner::new(row.get_ref(2)?.as_str()?).map_err(|error| unreadable(2, Type::Text, error))?,
        status: status(row, 3)?,
        currency: row.get_ref(4)?.as_str()?.parse().map_err(|error| unreadable(4, Type::Text, error))?,
        balance: Money::new(row.get(5)?).map_err(|error| unreadable(5, Type::Integer, error))?,
        version: Version::new(row.get(6)?),
        opened_at: Timestamp::from_micros(row.get(7)?),
        updated_at: Timestamp::from_micros(row.get(8)?),
    })
}

fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<AccountStatus> {
    let text = row.get_ref(column)?.as_str()?;
    [AccountStatus::Open, AccountStatus::Closed]
        .into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| unreadable(column, Type::Text, format!("{text} is no status")))
}

/// A value that this release cannot have written.
pub(super) fn unreadable(
    column: usize,
    kind: Type,
    reason: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::FromSqlConversionFailure(column, kind, reason.into())
}
