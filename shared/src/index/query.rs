use super::{AccountStatus, Balance};
use crate::money::{Currency, Money};
use crate::owner::Owner;

/// How many documents a page has by default.
pub const PAGE_DEFAULT: usize = 100;

/// The most documents in a page.
pub const PAGE_MAX: usize = 1_000;

/// The order of a list; the account's id breaks ties. A descending order is the reverse of the ascending one, ids
/// included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sort {
    /// Owner, ascending by code point.
    #[default]
    Owner,
    /// Owner, descending.
    OwnerDescending,
    /// Balance, ascending.
    Balance,
    /// Balance, descending.
    BalanceDescending,
}

/// Where a page ended: opaque, made by the index for one order.
///
/// It names the last document of the page by its sort value and id, so documents that do not change meanwhile are
/// listed without repeats or holes, even across a switch of generations. A query with other filters goes on from the
/// same place of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A query for documents of the active generation. Filters combine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceQuery {
    /// Exactly this owner.
    pub owner: Option<Owner>,
    /// Above this balance.
    pub balance_gt: Option<Money>,
    /// Below this balance.
    pub balance_lt: Option<Money>,
    /// Of this status.
    pub status: Option<AccountStatus>,
    /// In this currency. Balances of several compare by their minor units alone.
    pub currency: Option<Currency>,
    /// The order.
    pub sort: Sort,
    /// 1 ..= [`PAGE_MAX`].
    pub limit: usize,
    /// After this place.
    pub cursor: Option<Cursor>,
}

impl Default for BalanceQuery {
    fn default() -> Self {
        Self {
            owner: None,
            balance_gt: None,
            balance_lt: None,
            status: None,
            currency: None,
            sort: Sort::Owner,
            limit: PAGE_DEFAULT,
            cursor: None,
        }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancePage {
    /// The documents.
    pub balances: Vec<Balance>,
    /// Where the next page begins; `None` if this is the last.
    pub next: Option<Cursor>,
}
