//! Lists of the simulated index: filter everything, sort everything, cut a page.

use std::collections::BTreeMap;

use shared::id::AccountId;
use shared::index::{Balance, BalancePage, BalanceQuery, Cursor, QueryError, Sort};

/// A page of documents.
///
/// # Errors
/// The cursor is invalid, or belongs to another order.
pub(super) fn search(
    documents: &BTreeMap<AccountId, Balance>,
    query: &BalanceQuery,
) -> Result<BalancePage, QueryError> {
    let behind = query.cursor.as_ref().map(|cursor| Place::parse(query.sort, cursor)).transpose()?;
    let mut found: Vec<(Place, &Balance)> = documents
        .values()
        .filter(|document| matches(document, query))
        .map(|document| (Place::of(query.sort, document), document))
        .collect();
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let descends = matches!(query.sort, Sort::OwnerDescending | Sort::BalanceDescending);
    if descends {
        found.reverse();
    }
    if let Some(behind) = behind {
        found.retain(|(place, _)| if descends { *place < behind } else { behind < *place });
    }
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let next = found.last().filter(|_| more).map(|(place, _)| place.cursor(query.sort));
    Ok(BalancePage { balances: found.into_iter().map(|(_, document)| document.clone()).collect(), next })
}

fn matches(document: &Balance, query: &BalanceQuery) -> bool {
    query.owner.as_ref().is_none_or(|owner| *owner == document.owner)
        && query.balance_gt.is_none_or(|bound| bound < document.balance)
        && query.balance_lt.is_none_or(|bound| document.balance < bound)
        && query.status.is_none_or(|status| status == document.status)
        && query.currency.is_none_or(|currency| currency == document.currency)
}

/// The place of a document in an ascending order; fields that do not matter in it are empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    owner: String,
    balance: i64,
    account: AccountId,
}

impl Place {
    fn of(sort: Sort, document: &Balance) -> Self {
        let (owner, balance) = match sort {
            Sort::Owner | Sort::OwnerDescending => (document.owner.as_str().to_owned(), 0),
            Sort::Balance | Sort::BalanceDescending => (String::new(), document.balance.get()),
        };
        Self { owner, balance, account: document.id }
    }

    fn cursor(&self, sort: Sort) -> Cursor {
        Cursor(format!("{sort:?}|{}|{}|{}", self.account, self.balance, self.owner))
    }

    fn parse(sort: Sort, cursor: &Cursor) -> Result<Self, QueryError> {
        let mut parts = cursor.0.splitn(4, '|');
        let mut part = || parts.next().ok_or(QueryError::BadCursor);
        if part()? != format!("{sort:?}") {
            return Err(QueryError::BadCursor);
        }
        let account = part()?.parse().map_err(|_| QueryError::BadCursor)?;
        let balance = part()?.parse().map_err(|_| QueryError::BadCursor)?;
        Ok(Self { account, balance, owner: part()?.to_owned() })
    }
}
