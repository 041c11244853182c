use serde::Serialize;
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent};
use shared::id::{AccountId, CommitId, EventId};
use shared::money::Money;
use utoipa::ToSchema;

/// What happened to the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = StatementLineType)]
pub(crate) enum Kind {
    /// It was opened.
    Opened,
    /// Money came in from outside the bank.
    Deposited,
    /// Money left the bank.
    Withdrawn,
    /// Money went to another account.
    TransferSent,
    /// Money came from another account.
    TransferReceived,
    /// The name of its owner was changed.
    Renamed,
    /// It was closed.
    Closed,
}

/// One event of an account, and the balance after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The version of the event.
    pub(crate) version: Version,
    /// The event's id.
    pub(crate) event: EventId,
    /// What happened.
    pub(crate) kind: Kind,
    /// What it added to the balance: below zero if money went out, zero if none moved.
    pub(crate) change: Money,
    /// The balance after it.
    pub(crate) balance: Money,
    /// The customer's transaction, if it was one.
    pub(crate) transaction: Option<CommitId>,
    /// Where the money of a transfer went, or came from.
    pub(crate) other_account: Option<AccountId>,
    /// When it was decided.
    pub(crate) time: Timestamp,
}

impl Line {
    /// The line of an event, after which the account had this balance.
    pub(super) fn new(version: Version, new: &NewEvent, balance: Money) -> Self {
        let (kind, change, transaction, other_account) = match &new.event {
            AccountEvent::AccountOpened { opening, .. } => (Kind::Opened, *opening, None, None),
            AccountEvent::MoneyDeposited { transaction, amount } => {
                (Kind::Deposited, Money::from(*amount), Some(*transaction), None)
            }
            AccountEvent::MoneyWithdrawn { transaction, amount } => {
                (Kind::Withdrawn, -Money::from(*amount), Some(*transaction), None)
            }
            AccountEvent::TransferSent { transaction, to, amount } => {
                (Kind::TransferSent, -Money::from(*amount), Some(*transaction), Some(*to))
            }
            AccountEvent::TransferReceived { transaction, from, amount } => {
                (Kind::TransferReceived, Money::from(*amount), Some(*transaction), Some(*from))
            }
            AccountEvent::OwnerRenamed { .. } => (Kind::Renamed, Money::ZERO, None, None),
            AccountEvent::AccountClosed {} => (Kind::Closed, Money::ZERO, None, None),
        };
        Self { version, event: new.id, kind, change, balance, transaction, other_account, time: new.time }
    }

    /// The balance before the event; none if no account can have had it.
    pub(super) fn balance_before(&self) -> Option<Money> {
        Money::new(self.balance.get() - self.change.get()).ok()
    }
}
