//! The account after one more event (law AC3).

use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::event::AccountEvent;
use shared::id::AccountId;
use shared::money::Money;

use super::{Account, Status};

/// An event that cannot follow the ones before it: the stream was not written by this code, or was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {event} cannot be version {version} of stream {stream}")]
pub struct Misfit {
    /// The stream.
    pub stream: AccountId,
    /// The version the event has.
    pub version: Version,
    /// The event's type.
    pub event: &'static str,
}

impl Account {
    /// The account after one more event, which was decided at `time`. Older rules may have allowed what `decide`
    /// forbids today, so only an event that makes no sense under any rules is refused.
    ///
    /// # Errors
    /// [`Misfit`] when the event cannot follow: a first event that opens nothing, a second opening, a balance out of
    /// range.
    pub fn evolve(
        before: Option<Self>,
        stream: AccountId,
        event: &AccountEvent,
        time: Timestamp,
    ) -> Result<Self, Misfit> {
        let version = Self::version_of(before.as_ref()).next();
        let misfit = || Misfit { stream, version, event: event.type_name() };
        let Some(mut account) = before else {
            return Self::opened(stream, event, time).ok_or_else(misfit);
        };
        match event {
            AccountEvent::AccountOpened { .. } => return Err(misfit()),
            AccountEvent::MoneyDeposited { amount, .. } | AccountEvent::TransferReceived { amount, .. } => {
                account.balance = account.balance.plus(*amount).ok_or_else(misfit)?;
            }
            AccountEvent::MoneyWithdrawn { amount, .. } | AccountEvent::TransferSent { amount, .. } => {
                account.balance = account.balance.minus(*amount).ok_or_else(misfit)?;
            }
            AccountEvent::OwnerRenamed { personal } => account.owner = personal.owner.clone(),
            AccountEvent::AccountClosed {} => account.status = Status::Closed,
        }
        account.version = version;
        account.updated_at = time;
        Ok(account)
    }

    fn opened(stream: AccountId, event: &AccountEvent, time: Timestamp) -> Option<Self> {
        match event {
            AccountEvent::AccountOpened { currency, overdraft_limit, opening, personal } => {
                (*overdraft_limit >= Money::ZERO).then(|| Self {
                    id: stream,
                    version: Version::EMPTY.next(),
                    owner: personal.owner.clone(),
                    currency: *currency,
                    balance: *opening,
                    overdraft_limit: *overdraft_limit,
                    status: Status::Open,
                    opened_at: time,
                    updated_at: time,
                })
            }
            AccountEvent::MoneyDeposited { .. }
            | AccountEvent::MoneyWithdrawn { .. }
            | AccountEvent::TransferSent { .. }
            | AccountEvent::TransferReceived { .. }
            | AccountEvent::OwnerRenamed { .. }
            | AccountEvent::AccountClosed {} => None,
        }
    }
}
