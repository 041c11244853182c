use shared::id::AccountId;
use shared::money::MONEY_MAX;

/// Why the bank says no. Nothing has happened and nothing will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such account was ever opened.
    #[error("account {account} does not exist")]
    AccountNotFound {
        /// The account.
        account: AccountId,
    },
    /// The account is closed for good.
    #[error("account {account} is closed")]
    AccountClosed {
        /// The account.
        account: AccountId,
    },
    /// The id already belongs to an account.
    #[error("account {account} is already open")]
    AlreadyOpen {
        /// The account.
        account: AccountId,
    },
    /// The amount exceeds the balance plus the overdraft limit.
    #[error("the balance and overdraft limit of account {account} do not cover the amount")]
    InsufficientFunds {
        /// The account.
        account: AccountId,
    },
    /// Only an account with a balance of zero can be closed.
    #[error("account {account} can only be closed when its balance is zero")]
    BalanceNotZero {
        /// The account.
        account: AccountId,
    },
    /// The balance would leave the range of numbers that every JSON reader represents exactly.
    #[error("the balance of account {account} would leave the range of ±{MONEY_MAX} minor units")]
    BalanceOutOfRange {
        /// The account.
        account: AccountId,
    },
    /// A transfer needs two accounts.
    #[error("a transfer needs two different accounts")]
    SameAccount,
    /// The bank does not exchange currencies.
    #[error("both accounts of a transfer must have the same currency")]
    CurrencyMismatch,
}

impl Rejection {
    /// The stable name of the reason, for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AccountNotFound { .. } => "account_not_found",
            Self::AccountClosed { .. } => "account_closed",
            Self::AlreadyOpen { .. } => "account_already_open",
            Self::InsufficientFunds { .. } => "insufficient_funds",
            Self::BalanceNotZero { .. } => "balance_not_zero",
            Self::BalanceOutOfRange { .. } => "balance_out_of_range",
            Self::SameAccount => "same_account",
            Self::CurrencyMismatch => "currency_mismatch",
        }
    }
}
