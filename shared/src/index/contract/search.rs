//! Lists: orders, filters, cursors.

use std::cmp::Ordering;

use super::{account, documents, serving};
use crate::index::{
    AccountStatus, Balance, BalanceIndex, BalancePage, BalanceQuery, Cursor, PAGE_MAX, QueryError, Sort,
};
use crate::money::Money;
use crate::owner::Owner;

const SORTS: [Sort; 4] = [Sort::Owner, Sort::OwnerDescending, Sort::Balance, Sort::BalanceDescending];

fn owner(name: &str) -> Owner {
    Owner::new(name).unwrap()
}

fn money(minor_units: i64) -> Money {
    Money::new(minor_units).unwrap()
}

/// Documents with ties on owner, on balance and on both.
fn samples() -> Vec<Balance> {
    let owners = ["Ann", "Bob", "Bo", "Ann Lee", "Änne"];
    let balances = [-500, 0, 100, 100, 250, 9_000];
    (0_u16..30)
        .map(|number| Balance {
            owner: owner(owners[usize::from(number * 7 % 5)]),
            balance: money(balances[usize::from(number * 5 % 6)]),
            status: if number % 4 == 1 { AccountStatus::Closed } else { AccountStatus::Open },
            ..super::document(number, 1)
        })
        .collect()
}

/// The order that [`Sort`] promises.
fn compare(sort: Sort, a: &Balance, b: &Balance) -> Ordering {
    let by_owner = (&a.owner, a.id).cmp(&(&b.owner, b.id));
    let by_balance = (a.balance, a.id).cmp(&(b.balance, b.id));
    match sort {
        Sort::Owner => by_owner,
        Sort::OwnerDescending => by_owner.reverse(),
        Sort::Balance => by_balance,
        Sort::BalanceDescending => by_balance.reverse(),
    }
}

/// What a query should find in all its pages.
fn expected(documents: &[Balance], query: &BalanceQuery) -> Vec<Balance> {
    let mut found: Vec<Balance> = documents
        .iter()
        .filter(|document| query.owner.as_ref().is_none_or(|owner| document.owner == *owner))
        .filter(|document| query.balance_gt.is_none_or(|bound| document.balance > bound))
        .filter(|document| query.balance_lt.is_none_or(|bound| document.balance < bound))
        .filter(|document| query.status.is_none_or(|status| document.status == status))
        .filter(|document| query.currency.is_none_or(|currency| document.currency == currency))
        .cloned()
        .collect();
    found.sort_by(|a, b| compare(query.sort, a, b));
    found
}

/// All pages of a query, checked for their size.
async fn pages<I: BalanceIndex>(index: &I, query: &BalanceQuery) -> Vec<Balance> {
    let mut query = query.clone();
    let mut found = Vec::new();
    loop {
        let BalancePage { balances, next } = index.search(&query).await.unwrap();
        assert!(balances.len() <= query.limit);
        assert!(next.is_none() || balances.len() == query.limit, "a page that is not the last is full");
        found.extend(balances);
        match next {
            Some(cursor) => query.cursor = Some(cursor),
            None => return found,
        }
    }
}

fn queries() -> Vec<BalanceQuery> {
    let all = BalanceQuery::default();
    vec![
        BalanceQuery { owner: Some(owner("Ann")), ..all.clone() },
        BalanceQuery { owner: Some(owner("nobody")), ..all.clone() },
        BalanceQuery { owner: Some(owner("ann")), ..all.clone() },
        BalanceQuery { balance_gt: Some(money(100)), ..all.clone() },
        BalanceQuery { balance_gt: Some(money(9_000)), ..all.clone() },
        BalanceQuery { balance_lt: Some(money(100)), ..all.clone() },
        BalanceQuery { balance_lt: Some(money(-500)), ..all.clone() },
        BalanceQuery { balance_gt: Some(money(-1)), balance_lt: Some(money(101)), ..all.clone() },
        BalanceQuery { balance_gt: Some(money(100)), balance_lt: Some(money(101)), ..all.clone() },
        BalanceQuery { status: Some(AccountStatus::Open), ..all.clone() },
        BalanceQuery { status: Some(AccountStatus::Closed), ..all.clone() },
        BalanceQuery { currency: "EUR".parse().ok(), ..all.clone() },
        BalanceQuery { currency: "CZK".parse().ok(), ..all.clone() },
        BalanceQuery { currency: "JPY".parse().ok(), balance_gt: Some(money(0)), ..all },
    ]
}

/// [`Sort`], [`Cursor`]
pub async fn every_order_pages_through_all_documents_without_repeats<I: BalanceIndex>(index: I) {
    serving(&index, samples()).await;
    for sort in SORTS {
        for limit in [1, 2, 3, 29, 30, 31, PAGE_MAX] {
            let query = BalanceQuery { sort, limit, ..BalanceQuery::default() };
            assert_eq!(pages(&index, &query).await, expected(&samples(), &query), "{sort:?} by {limit}");
        }
    }
}

/// [`BalanceQuery`]
pub async fn every_filter_selects_exactly_what_it_says<I: BalanceIndex>(index: I) {
    serving(&index, samples()).await;
    for query in queries() {
        for sort in SORTS {
            let query = BalanceQuery { sort, ..query.clone() };
            assert_eq!(pages(&index, &query).await, expected(&samples(), &query), "{query:?}");
        }
    }
}

/// [`BalanceQuery`]
pub async fn filters_combine_and_page<I: BalanceIndex>(index: I) {
    serving(&index, samples()).await;
    for query in queries() {
        for sort in SORTS {
            let combined = BalanceQuery {
                owner: query.owner.clone().or_else(|| Some(owner("Bob"))),
                balance_lt: query.balance_lt.or_else(|| Some(money(9_000))),
                sort,
                limit: 2,
                ..query.clone()
            };
            assert_eq!(pages(&index, &combined).await, expected(&samples(), &combined), "{combined:?}");
            let paged = BalanceQuery { sort, limit: 3, ..query.clone() };
            assert_eq!(pages(&index, &paged).await, expected(&samples(), &paged), "{paged:?}");
        }
    }
}

/// [`Sort::Owner`]
pub async fn owners_sort_by_code_point<I: BalanceIndex>(index: I) {
    // Capitals before small letters, and U+FF5E before U+1F600, which UTF-16 would reverse.
    let names = ["Zoe", "adam", "zoe", "Ärzte", "\u{ff5e}wave", "\u{1f600}"];
    let written: Vec<Balance> = (1..)
        .zip(names.iter().rev())
        .map(|(number, name)| Balance { owner: owner(name), ..super::document(number, 1) })
        .collect();
    serving(&index, written).await;
    let listed = pages(&index, &BalanceQuery { limit: 2, ..BalanceQuery::default() }).await;
    let listed: Vec<&str> = listed.iter().map(|balance| balance.owner.as_str()).collect();
    assert_eq!(listed, names);
}

/// [`BalancePage::next`]
pub async fn the_last_page_has_no_next<I: BalanceIndex>(index: I) {
    serving(&index, vec![]).await;
    let empty = index.search(&BalanceQuery::default()).await.unwrap();
    assert_eq!(empty, BalancePage { balances: vec![], next: None });

    serving(&index, documents(1..=4, 1)).await;
    for (limit, has_next) in [(3, true), (4, false), (5, false)] {
        let page = index.search(&BalanceQuery { limit, ..BalanceQuery::default() }).await.unwrap();
        assert_eq!(page.next.is_some(), has_next, "four documents, {limit} to a page");
    }
}

/// [`Cursor`]
pub async fn a_cursor_goes_on_in_another_generation<I: BalanceIndex>(index: I) {
    for sort in SORTS {
        serving(&index, samples()).await;
        let query = BalanceQuery { sort, limit: 10, ..BalanceQuery::default() };
        let first = index.search(&query).await.unwrap();
        // The document at the cursor is gone from the next generation; its place is not.
        let at_cursor = first.balances.last().map(|balance| balance.id);
        serving(&index, samples().into_iter().filter(|balance| Some(balance.id) != at_cursor).collect()).await;
        let rest = pages(&index, &BalanceQuery { cursor: first.next, ..query.clone() }).await;
        assert_eq!(rest, expected(&samples(), &query)[10..]);
    }
}

/// [`QueryError::BadCursor`]
pub async fn a_cursor_that_was_not_made_here_is_refused<I: BalanceIndex>(index: I) {
    serving(&index, samples()).await;
    let id = account(1).to_string();
    for sort in SORTS {
        for garbage in
            ["", "0", "00", "x", "%%%", "ff".repeat(40).as_str(), "AAAA", "' OR 1=1 --", id.as_str(), "ÄÖÜ😀"]
        {
            let cursor = Some(Cursor(garbage.to_owned()));
            let refused = index.search(&BalanceQuery { sort, cursor, ..BalanceQuery::default() }).await;
            assert!(matches!(refused, Err(QueryError::BadCursor)), "{garbage:?}: {refused:?}");
        }
    }
}

/// [`QueryError::BadCursor`]
pub async fn a_cursor_of_another_order_is_refused<I: BalanceIndex>(index: I) {
    serving(&index, samples()).await;
    for made_for in SORTS {
        let made = BalanceQuery { sort: made_for, limit: 5, ..BalanceQuery::default() };
        let cursor = index.search(&made).await.unwrap().next;
        assert!(cursor.is_some());
        for sort in SORTS.into_iter().filter(|sort| *sort != made_for) {
            let refused = index.search(&BalanceQuery { sort, cursor: cursor.clone(), ..made.clone() }).await;
            assert!(matches!(refused, Err(QueryError::BadCursor)), "{made_for:?} taken for {sort:?}");
        }
    }
}
