//! The fold of one event: the balance after it.

use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent};
use shared::id::AccountId;
use shared::index::{AccountStatus, Balance};
use shared::money::Money;

/// Why an event cannot follow the events before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The first event is not the opening of the account.
    #[error("the first event does not open the account")]
    NotOpened,
    /// It was opened already.
    #[error("the account was opened twice")]
    OpenedTwice,
    /// The sum leaves the range of money.
    #[error("the balance leaves the range of money")]
    OutOfRange,
}

/// Folds one event into a balance; `None` is the balance before the first event.
///
/// # Errors
/// [`FoldError`] if the event cannot follow; nothing is changed then.
pub fn fold(before: Option<&Balance>, account: AccountId, new: &NewEvent) -> Result<Balance, FoldError> {
    let Some(before) = before else { return open(account, new) };
    let mut balance = before.clone();
    match &new.event {
        AccountEvent::AccountOpened { .. } => return Err(FoldError::OpenedTwice),
        AccountEvent::MoneyDeposited { amount, .. } | AccountEvent::TransferReceived { amount, .. } => {
            balance.balance = in_range(before.balance.plus(*amount))?;
        }
        AccountEvent::MoneyWithdrawn { amount, .. } | AccountEvent::TransferSent { amount, .. } => {
            balance.balance = in_range(before.balance.minus(*amount))?;
        }
        AccountEvent::OwnerRenamed { personal } => balance.owner = personal.owner.clone(),
        AccountEvent::AccountClosed {} => balance.status = AccountStatus::Closed,
    }
    balance.version = before.version.next();
    balance.event_id = new.id;
    balance.updated_at = new.time;
    Ok(balance)
}

fn open(account: AccountId, new: &NewEvent) -> Result<Balance, FoldError> {
    match &new.event {
        AccountEvent::AccountOpened { currency, opening, personal, overdraft_limit: _ } => Ok(Balance {
            id: account,
            event_id: new.id,
            owner: personal.owner.clone(),
            status: AccountStatus::Open,
            currency: *currency,
            balance: *opening,
            version: Version::EMPTY.next(),
            opened_at: new.time,
            updated_at: new.time,
        }),
        AccountEvent::MoneyDeposited { .. }
        | AccountEvent::MoneyWithdrawn { .. }
        | AccountEvent::TransferSent { .. }
        | AccountEvent::TransferReceived { .. }
        | AccountEvent::OwnerRenamed { .. }
        | AccountEvent::AccountClosed {} => Err(FoldError::NotOpened),
    }
}

fn in_range(sum: Option<Money>) -> Result<Money, FoldError> {
    sum.ok_or(FoldError::OutOfRange)
}
