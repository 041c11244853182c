//! Receipts: what a command did, as the store keeps it and the customer is answered.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::id::{AccountId, CommitId};
use shared::money::{Amount, Money};
use shared::store::StoredCommit;

use super::{CommandError, Outcome};
use crate::account::{Account, Command, Status};

/// Room for a receipt as JSON: that of a transfer takes less than 300 bytes.
const RECEIPT_BYTES: usize = 320;

/// What a command did, kept with its commit, so that a repeated request always gets the same answer. Whatever was
/// written must stay readable for ever (`golden/receipts.json`).
///
/// It holds no personal data, so erasing such data does not concern it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Receipt {
    /// An account was opened.
    Opened {
        /// The new account.
        account: AccountAfter,
    },
    /// Money came in.
    Deposited {
        /// Where to.
        account: AccountAfter,
        /// How much.
        amount: Amount,
    },
    /// Money went out.
    Withdrawn {
        /// Where from.
        account: AccountAfter,
        /// How much.
        amount: Amount,
    },
    /// Money moved.
    Transferred {
        /// Where from.
        from: AccountAfter,
        /// Where to.
        to: AccountAfter,
        /// How much.
        amount: Amount,
    },
    /// The name of an account's owner was changed.
    Renamed {
        /// The account.
        account: AccountAfter,
    },
    /// An account was closed.
    Closed {
        /// The account.
        account: AccountAfter,
    },
}

/// An account as a command left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountAfter {
    /// The account.
    pub id: AccountId,
    /// The money in it.
    pub balance: Money,
    /// How many events it has.
    pub version: Version,
    /// Whether it takes commands.
    pub status: Status,
}

impl From<&Account> for AccountAfter {
    fn from(account: &Account) -> Self {
        Self { id: account.id, balance: account.balance, version: account.version, status: account.status }
    }
}

/// A movement of money as the customer sees it; a missing side is the world outside the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its id.
    pub id: CommitId,
    /// Who paid.
    pub from: Option<AccountId>,
    /// Who received.
    pub to: Option<AccountId>,
    /// How much.
    pub amount: Amount,
    /// When it was decided.
    pub time: Timestamp,
}

impl Receipt {
    /// The receipt of a command that left its account, and the other account of a transfer, in this state.
    pub(super) fn new(command: &Command, account: AccountAfter, other: Option<AccountAfter>) -> Self {
        match command {
            Command::Open { .. } => Self::Opened { account },
            Command::Deposit { amount, .. } => Self::Deposited { account, amount: *amount },
            Command::Withdraw { amount, .. } => Self::Withdrawn { account, amount: *amount },
            Command::Transfer { amount, .. } => {
                Self::Transferred { from: account, to: other.unwrap_or(account), amount: *amount }
            }
            Command::Rename { .. } => Self::Renamed { account },
            Command::Close { .. } => Self::Closed { account },
        }
    }

    /// The form in which it is kept with the commit.
    pub(super) fn to_bytes(&self) -> Bytes {
        let mut json = Vec::with_capacity(RECEIPT_BYTES);
        serde_json::to_writer(&mut json, self).expect("a receipt has no maps and so becomes JSON");
        json.into()
    }

    /// The account the command was about; for a transfer the one that paid.
    #[must_use]
    pub const fn account(&self) -> &AccountAfter {
        match self {
            Self::Opened { account }
            | Self::Deposited { account, .. }
            | Self::Withdrawn { account, .. }
            | Self::Transferred { from: account, .. }
            | Self::Renamed { account }
            | Self::Closed { account } => account,
        }
    }
}

impl Outcome {
    /// The outcome of a commit that the store holds.
    pub(super) fn stored(stored: &StoredCommit, replayed: bool) -> Result<Self, CommandError> {
        let receipt = serde_json::from_slice(&stored.receipt).map_err(|_| CommandError::Unreadable)?;
        Ok(Self { transaction: stored.id, time: stored.time, receipt, replayed })
    }

    /// The movement of money, if the command was a deposit, a withdrawal or a transfer.
    #[must_use]
    pub fn movement(&self) -> Option<Transaction> {
        let (from, to, amount) = match &self.receipt {
            Receipt::Deposited { account, amount } => (None, Some(account.id), *amount),
            Receipt::Withdrawn { account, amount } => (Some(account.id), None, *amount),
            Receipt::Transferred { from, to, amount } => (Some(from.id), Some(to.id), *amount),
            Receipt::Opened { .. } | Receipt::Renamed { .. } | Receipt::Closed { .. } => return None,
        };
        Some(Transaction { id: self.transaction, from, to, amount, time: self.time })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    /// The receipts of `golden/receipts.json`.
    fn receipts() -> [Receipt; 6] {
        let after = |id: &str, balance, version, status| AccountAfter {
            id: id.parse().unwrap(),
            balance: Money::new(balance).unwrap(),
            version: Version::new(version),
            status,
        };
        let account = |balance, version| after("0197f0a0-0000-7000-8000-00000000000a", balance, version, Status::Open);
        let to = after("0197f0a0-0000-7000-8000-00000000000b", 20, 2, Status::Open);
        let amount = |minor_units| Amount::new(minor_units).unwrap();
        [
            Receipt::Opened { account: account(50, 1) },
            Receipt::Deposited { account: account(150, 2), amount: amount(100) },
            Receipt::Withdrawn { account: account(-20, 3), amount: amount(170) },
            Receipt::Transferred { from: account(-40, 4), to, amount: amount(20) },
            Receipt::Renamed { account: account(-40, 5) },
            Receipt::Closed { account: AccountAfter { status: Status::Closed, ..account(0, 7) } },
        ]
    }

    #[test]
    fn a_receipt_of_every_kind_is_read_and_written_as_in_every_release() {
        const ADVICE: &str = "stores hold such receipts for ever: keep the row and let it be read as before; only a new \
            kind, or a new shape beside the old one, adds a row";
        let rows: Vec<Box<RawValue>> = serde_json::from_str(include_str!("../../golden/receipts.json")).unwrap();
        assert_eq!(rows.len(), receipts().len(), "every row of golden/receipts.json has its receipt here");
        for (row, receipt) in rows.iter().zip(receipts()) {
            let row = row.get();
            assert_eq!(serde_json::from_str::<Receipt>(row).ok().as_ref(), Some(&receipt), "{row}: {ADVICE}");
            assert_eq!(receipt.to_bytes(), row, "{ADVICE}");
        }
    }
}
