use shared::id::AccountId;
use shared::money::{Amount, Currency};
use shared::owner::Owner;

/// What a customer asks for. It concerns one account, or two in a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open an account.
    Open {
        /// Its id, made by whoever takes the request.
        account: AccountId,
        /// Whose account it is.
        owner: Owner,
        /// Its one currency.
        currency: Currency,
        /// What is on it at first; none for an empty account.
        opening: Option<Amount>,
        /// How far below zero the balance may go; none for not at all.
        overdraft_limit: Option<Amount>,
    },
    /// Bring money in from outside the bank.
    Deposit {
        /// Where to.
        account: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Take money outside the bank.
    Withdraw {
        /// Where from.
        account: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Move money between two accounts.
    Transfer {
        /// Where from.
        from: AccountId,
        /// Where to.
        to: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Give the account another owner's name.
    Rename {
        /// Which account.
        account: AccountId,
        /// The new name.
        owner: Owner,
    },
    /// Close the account for good.
    Close {
        /// Which account.
        account: AccountId,
    },
}

impl Command {
    /// The account whose version the customer may name with the command: for a transfer the one that pays.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        match self {
            Self::Open { account, .. }
            | Self::Deposit { account, .. }
            | Self::Withdraw { account, .. }
            | Self::Transfer { from: account, .. }
            | Self::Rename { account, .. }
            | Self::Close { account } => *account,
        }
    }

    /// The account that a transfer pays into.
    #[must_use]
    pub const fn other_account(&self) -> Option<AccountId> {
        match self {
            Self::Transfer { to, .. } => Some(*to),
            Self::Open { .. }
            | Self::Deposit { .. }
            | Self::Withdraw { .. }
            | Self::Rename { .. }
            | Self::Close { .. } => None,
        }
    }

    /// Every account the command concerns; a transfer to itself names its account twice.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> + use<> {
        std::iter::once(self.account()).chain(self.other_account())
    }
}
