//! The fold of an account's events, written a second time: the audit compares every document with it, so it shares no
//! code with the services.

use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent};
use shared::id::AccountId;
use shared::index::{AccountStatus, Balance};
use shared::money::Money;

/// An account at one version.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Its document.
    pub(crate) document: Balance,
    overdraft_limit: i64,
}

/// Folds the next event into an account; `before` is `None` for a new one.
///
/// # Errors
/// What is wrong with the event, in words.
pub(crate) fn tell(account: AccountId, before: Option<&Account>, new: &NewEvent) -> Result<Account, String> {
    let mut next = match (before, &new.event) {
        (None, AccountEvent::AccountOpened { currency, overdraft_limit, opening, personal }) => {
            return Ok(Account {
                document: Balance {
                    id: account,
                    event_id: new.id,
                    owner: personal.owner.clone(),
                    status: AccountStatus::Open,
                    currency: *currency,
                    balance: *opening,
                    version: Version::new(1),
                    opened_at: new.time,
                    updated_at: new.time,
                },
                overdraft_limit: overdraft_limit.get(),
            });
        }
        (None, event) => return Err(format!("{} before the account was opened", event.type_name())),
        (Some(_), AccountEvent::AccountOpened { .. }) => return Err("opened twice".to_owned()),
        (Some(before), _) => before.clone(),
    };
    let document = &mut next.document;
    if document.status == AccountStatus::Closed {
        return Err(format!("{} after the account was closed", new.event.type_name()));
    }
    let mut minor_units = document.balance.get();
    match &new.event {
        AccountEvent::AccountOpened { .. } => {}
        AccountEvent::MoneyDeposited { amount, .. } | AccountEvent::TransferReceived { amount, .. } => {
            minor_units += amount.get();
        }
        AccountEvent::MoneyWithdrawn { amount, .. } | AccountEvent::TransferSent { amount, .. } => {
            minor_units -= amount.get();
        }
        AccountEvent::OwnerRenamed { personal } => document.owner = personal.owner.clone(),
        AccountEvent::AccountClosed {} if minor_units != 0 => return Err("closed with money on it".to_owned()),
        AccountEvent::AccountClosed {} => document.status = AccountStatus::Closed,
    }
    if minor_units < -next.overdraft_limit {
        return Err(format!("a balance of {minor_units} below the limit"));
    }
    document.balance = Money::new(minor_units).map_err(|error| error.to_string())?;
    document.version = document.version.next();
    document.event_id = new.id;
    document.updated_at = new.time;
    Ok(next)
}
