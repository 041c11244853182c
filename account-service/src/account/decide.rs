//! Decides a command: which events carry it out, or why the bank refuses (laws AC2 to AC4).

use shared::event::{AccountEvent, Personal};
use shared::id::{AccountId, CommitId};
use shared::money::{Amount, Money};

use super::{Account, Command, Rejection, Status};

/// The events that carry out a command: one for each account it concerns, the paying account first.
pub type Decided = Vec<(AccountId, AccountEvent)>;

/// Decides a command on the current state of its accounts; the customer can look it up later by `transaction`.
///
/// # Errors
/// The [`Rejection`] that says why the bank refuses.
pub fn decide<'a>(
    command: &Command,
    transaction: CommitId,
    account_of: impl Fn(AccountId) -> Option<&'a Account>,
) -> Result<Decided, Rejection> {
    let open = |account| open_account(account, &account_of);
    match command {
        Command::Open { account, owner, currency, opening, overdraft_limit } => {
            if account_of(*account).is_some() {
                return Err(Rejection::AlreadyOpen { account: *account });
            }
            let event = AccountEvent::AccountOpened {
                currency: *currency,
                overdraft_limit: overdraft_limit.map_or(Money::ZERO, Money::from),
                opening: opening.map_or(Money::ZERO, Money::from),
                personal: Personal { owner: owner.clone() },
            };
            Ok(vec![(*account, event)])
        }
        Command::Deposit { account, amount } => {
            open(*account)?.may_receive(*amount)?;
            Ok(vec![(*account, AccountEvent::MoneyDeposited { transaction, amount: *amount })])
        }
        Command::Withdraw { account, amount } => {
            open(*account)?.may_pay(*amount)?;
            Ok(vec![(*account, AccountEvent::MoneyWithdrawn { transaction, amount: *amount })])
        }
        Command::Transfer { from, to, amount } => {
            if from == to {
                return Err(Rejection::SameAccount);
            }
            let (payer, receiver) = (open(*from)?, open(*to)?);
            if payer.currency != receiver.currency {
                return Err(Rejection::CurrencyMismatch);
            }
            payer.may_pay(*amount)?;
            receiver.may_receive(*amount)?;
            Ok(vec![
                (*from, AccountEvent::TransferSent { transaction, to: *to, amount: *amount }),
                (*to, AccountEvent::TransferReceived { transaction, from: *from, amount: *amount }),
            ])
        }
        Command::Rename { account, owner } => {
            open(*account)?;
            Ok(vec![(*account, AccountEvent::OwnerRenamed { personal: Personal { owner: owner.clone() } })])
        }
        Command::Close { account } => {
            if open(*account)?.balance != Money::ZERO {
                return Err(Rejection::BalanceNotZero { account: *account });
            }
            Ok(vec![(*account, AccountEvent::AccountClosed {})])
        }
    }
}

fn open_account<'a>(
    account: AccountId,
    account_of: impl Fn(AccountId) -> Option<&'a Account>,
) -> Result<&'a Account, Rejection> {
    let found = account_of(account).ok_or(Rejection::AccountNotFound { account })?;
    match found.status {
        Status::Open => Ok(found),
        Status::Closed => Err(Rejection::AccountClosed { account }),
    }
}

impl Account {
    fn may_receive(&self, amount: Amount) -> Result<(), Rejection> {
        match self.balance.plus(amount) {
            Some(_) => Ok(()),
            None => Err(Rejection::BalanceOutOfRange { account: self.id }),
        }
    }

    fn may_pay(&self, amount: Amount) -> Result<(), Rejection> {
        match self.balance.minus(amount) {
            Some(rest) if rest.get() >= -self.overdraft_limit.get() => Ok(()),
            Some(_) | None => Err(Rejection::InsufficientFunds { account: self.id }),
        }
    }
}
