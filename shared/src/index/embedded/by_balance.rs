//! The tree that lists are read from in the order of balances: there while somebody asks for such lists.
//!
//! Each change of a balance takes an account out of this tree and puts it in elsewhere, so where accounts are many it
//! is two pages for each of them that changes, twice what the document itself costs. A bank that nobody asks for an
//! order by balance does not pay for one (`docs/adr/0018-an-order-nobody-asks-for-is-not-kept.md`).
//!
//! K1  What a query answers does not depend on whether the tree is there, only how long it takes.
//! K2  A query that the tree would serve has it built if the generation that answers has none. It counts as asking for
//!     ten minutes ([`KEPT`]). Writes wait while a tree is built, about a second for a million accounts. If it cannot
//!     be built, as on a full disk, the query is answered without.
//! K3  A tree is removed when nobody has asked for so long.
//! K4  A generation that is prepared for promotion gets one if and only if somebody has asked, so that a rebuild takes
//!     nothing from those who do; one that is kept for a rollback keeps what it has, by law K3.
//!
//! Why K1 holds: a page is one SQL statement with its order in it. SQLite reads it from the tree or sorts for itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tracing::info;

use super::generation;
use super::row::table;
use crate::index::{BalanceQuery, Generation, Sort};
use crate::sqlite::Upkeep;

/// For how long a question counts. Longer than the pauses of a person at work and of most dashboards; against ten
/// minutes of keeping a tree up to date, building it again is nothing.
pub(super) const KEPT: Duration = Duration::from_mins(10);

/// How many looks within that time find out that nobody asks: a tree may stay a tenth longer.
const LOOKS: u32 = 10;

/// Whether somebody asks. Clones share it.
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

    /// Whether somebody has asked lately.
    pub(super) fn is_recent(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < self.kept)
    }
}

/// Whether SQLite would read the page of a query from the tree. With an owner given, it reads those of the owner.
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

/// Builds it, sorted and in one go, if it is not there.
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

/// Builds that of the generation that answers, if one does.
pub(super) fn build_active(connection: &Connection) -> rusqlite::Result<()> {
    generation::active(connection)?.map_or(Ok(()), |active| build(connection, active))
}

/// Removes it, if it is there.
fn remove(connection: &Connection, generation: Generation) -> rusqlite::Result<()> {
    if !is_there(connection, generation)? {
        return Ok(());
    }
    connection.execute_batch(&format!("DROP INDEX {}", name(generation)))?;
    info!(generation = generation.0, "dropped the unused index by balance");
    Ok(())
}

/// Removes what nobody asks for (law K3).
pub(super) struct Pruner {
    asked: Asked,
    /// When it looks next. A tree of an earlier process has its time from the start on.
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
        // Set before, so that what fails is not tried again with every turn.
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
