use shared::id::AccountId;
use shared::money::{Amount, Currency};
use shared::owner::Owner;

/// A customer's command. It concerns one account, or two for a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open an account.
    Open {
        /// Its id, generated where the request is received.
        account: AccountId,
        /// Who owns it.
        owner: Owner,
        /// Its only currency.
        currency: Currency,
        /// The opening balance; none for an empty account.
        opening: Option<Amount>,
        /// How far below zero the balance may go; none if it may not.
        overdraft_limit: Option<Amount>,
    },
    /// Bring money in from outside the bank.
    Deposit {
        /// Where to.
        account: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Pay money out of the bank.
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
    /// Change the name of the account's owner.
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
    /// The account whose version the customer may specify with the command: for a transfer, the paying one.
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

    /// Every account the command concerns; a transfer from an account to itself yields it twice.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> + use<> {
        std::iter::once(self.account()).chain(self.other_account())
    }
}
