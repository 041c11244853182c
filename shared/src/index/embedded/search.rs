//! Pages of documents.

use rusqlite::Connection;
use rusqlite::types::Value;

use super::row::{self, COLUMNS, table};
use crate::index::cursor::{self, Place, SortValue};
use crate::index::{Balance, BalancePage, BalanceQuery, Generation, Sort};

/// A statement and its values. Its text is this program's alone; everything that a caller supplies is a value.
struct Statement {
    text: String,
    values: Vec<Value>,
}

impl Statement {
    /// Adds a piece with a question mark for each value.
    fn push<const N: usize>(&mut self, piece: &'static str, values: [Value; N]) {
        self.text.push_str(piece);
        self.values.extend(values);
    }
}

/// The page of a query, after a place.
pub(super) fn page(
    connection: &Connection,
    generation: Generation,
    query: &BalanceQuery,
    place: Option<&Place>,
) -> rusqlite::Result<BalancePage> {
    let statement = statement(generation, query, place);
    let mut search = connection.prepare_cached(&statement.text)?;
    let values = rusqlite::params_from_iter(&statement.values);
    let mut balances = search.query_map(values, row::balance)?.collect::<rusqlite::Result<Vec<Balance>>>()?;
    let has_next = balances.len() > query.limit;
    balances.truncate(query.limit);
    let next = balances.last().filter(|_| has_next).map(|last| cursor::behind(last, query.sort));
    Ok(BalancePage { balances, next })
}

fn statement(generation: Generation, query: &BalanceQuery, place: Option<&Place>) -> Statement {
    let text = format!("SELECT {COLUMNS} FROM {} WHERE TRUE", table(generation));
    let mut statement = Statement { text, values: Vec::new() };
    if let Some(owner) = &query.owner {
        statement.push(" AND owner = ?", [owner.as_str().to_owned().into()]);
    }
    if let Some(bound) = query.balance_gt {
        statement.push(" AND balance > ?", [bound.get().into()]);
    }
    if let Some(bound) = query.balance_lt {
        statement.push(" AND balance < ?", [bound.get().into()]);
    }
    // No tree serves these two: SQLite reads on in the order of the page, and skips what does not match.
    if let Some(status) = query.status {
        statement.push(" AND status = ?", [status.as_str().to_owned().into()]);
    }
    if let Some(currency) = query.currency {
        statement.push(" AND currency = ?", [currency.code().to_owned().into()]);
    }
    let (behind, order) = match query.sort {
        Sort::Owner => (" AND (owner, id) > (?, ?)", " ORDER BY owner, id"),
        Sort::OwnerDescending => (" AND (owner, id) < (?, ?)", " ORDER BY owner DESC, id DESC"),
        Sort::Balance => (" AND (balance, id) > (?, ?)", " ORDER BY balance, id"),
        Sort::BalanceDescending => (" AND (balance, id) < (?, ?)", " ORDER BY balance DESC, id DESC"),
    };
    if let Some(Place { value, account }) = place {
        let value = match value {
            SortValue::Owner(owner) => owner.as_str().to_owned().into(),
            SortValue::Balance(balance) => balance.get().into(),
        };
        statement.push(behind, [value, account.as_bytes().to_vec().into()]);
    }
    // One more document, to know whether there is another page.
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX).saturating_add(1);
    statement.push(order, []);
    statement.push(" LIMIT ?", [limit.into()]);
    statement
}

/// How SQLite would read the page.
#[cfg(test)]
pub(super) fn explain(
    connection: &Connection,
    generation: Generation,
    query: &BalanceQuery,
    place: Option<&Place>,
) -> rusqlite::Result<String> {
    let statement = statement(generation, query, place);
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.text))?;
    let steps = explain.query_map(rusqlite::params_from_iter(&statement.values), |row| row.get::<_, String>(3))?;
    steps.collect::<rusqlite::Result<Vec<_>>>().map(|steps| steps.join("; "))
}
