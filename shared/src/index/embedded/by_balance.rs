//! The tree for lists in the order of balances: kept only while clients ask for such lists.
//!
//! Each change of a balance moves an account to another place in this tree. With many accounts that costs two pages per
//! changed account, twice the cost of the document itself. A bank that is never asked for this order does not pay for
//! the tree (`docs/adr/0018-an-order-nobody-asks-for-is-not-kept.md`).
//!
//! K1  Whether the tree exists changes only how long a query takes, never its answer.
//! K2  A query that the tree would serve builds it if the active generation has none, and counts as demand for ten
//!     minutes ([`KEPT`]). Writes wait while a tree is built, about a second for a million accounts. If it cannot be
//!     built, as on a full disk, the query is answered without it.
//! K3  A tree is removed when there has been no demand for that long.
//! K4  A generation that is prepared for promotion gets a tree if and only if there is demand, so that a rebuild does
//!     not slow such queries down; one that is kept for a rollback keeps the tree it has, by law K3.
//!
//! Why K1 holds: a page is one SQL statement that includes its order. SQLite reads it from the tree or sorts by itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tracing::info;

use super::generation;
use super::row::table;
use crate::index::{BalanceQuery, Generation, Sort};
use crate::sqlite::Upkeep;

/// How long a query counts as demand. Longer than the pauses of a person at work and of most dashboards; compared with
/// keeping a tree up to date for ten minutes, building it again costs next to nothing.
pub(super) const KEPT: Duration = Duration::from_mins(10);

/// How often demand is checked within that time: a tree may stay a tenth longer.
const LOOKS: u32 = 10;

/// Whether there is demand for the tree. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    kept: Duration,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Asked {
    pub(super) fn new(kept: Duration) -> Self {
        Self { kept, last: Arc::default() }
    }

    pub(super) fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a query has asked recently.
    pub(super) fn is_recent(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < self.kept)
    }
}

/// Whether SQLite would read the page of a query from the tree. With an owner given, it reads the tree by owner.
pub(super) fn would_serve(query: &BalanceQuery) -> bool {
    let in_order = matches!(query.sort, Sort::Balance | Sort::BalanceDescending);
    let in_range = query.balance_gt.is_some() && query.balance_lt.is_some();
    query.owner.is_none() && (in_order || in_range)
}

fn name(generation: Generation) -> String {
    format!("{}_by_balance", table(generation))
}

pub(super) fn is_there(connection: &Connection, generation: Generation) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1)")?
        .query_row(params![name(generation)], |row| row.get(0))
}

/// Builds the tree in one sorted pass, if there is none.
pub(super) fn build(connection: &Connection, generation: Generation) -> rusqlite::Result<()> {
    if is_there(connection, generation)? {
        return Ok(());
    }
    let began = Instant::now();
    let (name, table) = (name(generation), table(generation));
    connection.execute_batch(&format!("CREATE INDEX {name} ON {table} (balance, id)"))?;
    info!(generation = generation.0, took = ?began.elapsed(), "built the index by balance");
    Ok(())
}

/// Builds the tree of the active generation, if there is one.
pub(super) fn build_active(connection: &Connection) -> rusqlite::Result<()> {
    generation::active(connection)?.map_or(Ok(()), |active| build(connection, active))
}

/// Removes the tree, if there is one.
fn remove(connection: &Connection, generation: Generation) -> rusqlite::Result<()> {
    if !is_there(connection, generation)? {
        return Ok(());
    }
    connection.execute_batch(&format!("DROP INDEX {}", name(generation)))?;
    info!(generation = generation.0, "dropped the unused index by balance");
    Ok(())
}

/// Removes trees that no query asks for (law K3).
pub(super) struct Pruner {
    asked: Asked,
    /// When it checks next. A tree left by an earlier process gets its full time from the start.
    next: Instant,
}

impl Pruner {
    pub(super) fn new(asked: Asked) -> Self {
        Self { next: Instant::now() + asked.kept, asked }
    }
}

impl Upkeep for Pruner {
    fn within_turn(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        // Set first, so that a failure is not tried again on every turn.
        self.next = now + self.asked.kept / LOOKS;
        if self.asked.is_recent() {
            return Ok(());
        }
        generation::all(connection)?.all.into_iter().try_for_each(|generation| remove(connection, generation))
    }

    fn after_turn(&mut self, _: bool) {}

    fn before_close(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }
}
