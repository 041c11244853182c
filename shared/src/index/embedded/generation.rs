//! Which generations exist, which is active, which are sealed: the tables `state` and `generations`.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::by_balance::{self, Asked};
use super::row::table;
use crate::index::{ApplyError, Generation, Generations, PromoteError, Seal, Sealing};

/// The generation that answers queries.
pub(super) fn active(connection: &Connection) -> rusqlite::Result<Option<Generation>> {
    let active: Option<u32> = connection.prepare_cached("SELECT active FROM state")?.query_row([], |row| row.get(0))?;
    Ok(active.map(Generation))
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Generations> {
    let mut numbers = connection.prepare_cached("SELECT number, seal FROM generations ORDER BY number")?;
    let mut found = Generations { active: active(connection)?, ..Generations::default() };
    let mut rows = numbers.query([])?;
    while let Some(row) = rows.next()? {
        let generation = Generation(row.get(0)?);
        found.all.push(generation);
        found.sealed.extend(seal_of(row.get(1)?).map(|seal| (generation, seal)));
    }
    Ok(found)
}

/// Whether a generation takes writes.
#[derive(PartialEq, Eq)]
enum State {
    Gone,
    Open,
    Sealed(Seal),
}

fn state(connection: &Connection, generation: Generation) -> rusqlite::Result<State> {
    let found = connection
        .prepare_cached("SELECT seal FROM generations WHERE number = ?1")?
        .query_row([generation.0], |row| Ok(seal_of(row.get(0)?).map_or(State::Open, State::Sealed)));
    Ok(found.optional()?.unwrap_or(State::Gone))
}

fn seal_of(bytes: Option<[u8; 16]>) -> Option<Seal> {
    bytes.map(|bytes| Seal(Uuid::from_bytes(bytes)))
}

pub(super) fn exists(connection: &Connection, generation: Generation) -> rusqlite::Result<bool> {
    Ok(!matches!(state(connection, generation)?, State::Gone))
}

/// Why nothing may be written to the generation.
pub(super) fn refusal(connection: &Connection, generation: Generation) -> rusqlite::Result<Option<ApplyError>> {
    Ok(match state(connection, generation)? {
        State::Open => None,
        State::Sealed(_) => Some(ApplyError::Sealed(generation)),
        State::Gone => Some(ApplyError::Gone(generation)),
    })
}

pub(super) fn create(connection: &Connection) -> rusqlite::Result<Generation> {
    let newest = connection.query_row("UPDATE state SET newest = newest + 1 RETURNING newest", [], |row| row.get(0))?;
    let generation = Generation(newest);
    connection.execute("INSERT INTO generations (number) VALUES (?1)", [newest])?;
    connection.execute_batch(&format!(
        "CREATE TABLE {} (
             slot       INTEGER NOT NULL,
             id         BLOB NOT NULL,
             event_id   BLOB NOT NULL,
             owner      TEXT NOT NULL,
             status     TEXT NOT NULL,
             currency   TEXT NOT NULL,
             balance    INTEGER NOT NULL,
             version    INTEGER NOT NULL,
             opened_at  INTEGER NOT NULL,
             updated_at INTEGER NOT NULL,
             PRIMARY KEY (slot, id)
         ) STRICT, WITHOUT ROWID",
        table(generation)
    ))?;
    Ok(generation)
}

pub(super) fn prepare(
    connection: &Connection,
    generation: Generation,
    asked: &Asked,
) -> rusqlite::Result<Result<(), ApplyError>> {
    if !exists(connection, generation)? {
        return Ok(Err(ApplyError::Gone(generation)));
    }
    list_by_owner(connection, generation)?;
    if asked.is_recent() {
        by_balance::build(connection, generation)?;
    }
    Ok(Ok(()))
}

fn list_by_owner(connection: &Connection, generation: Generation) -> rusqlite::Result<()> {
    let table = table(generation);
    connection.execute_batch(&format!("CREATE INDEX IF NOT EXISTS {table}_by_owner ON {table} (owner, id)"))
}

pub(super) fn promote(
    connection: &Connection,
    generation: Generation,
    expected: Option<(Generation, Sealing)>,
) -> rusqlite::Result<Result<(), PromoteError>> {
    let active = active(connection)?;
    let sealed = match expected {
        Some((expected, sealing)) => state(connection, expected)? == State::Sealed(sealing.seal),
        None => true,
    };
    if active != expected.map(|(expected, _)| expected) || !sealed {
        return Ok(Err(PromoteError::Moved(active)));
    }
    if !exists(connection, generation)? {
        return Ok(Err(PromoteError::Gone(generation)));
    }
    list_by_owner(connection, generation)?;
    connection.execute("UPDATE state SET active = ?1", [generation.0])?;
    Ok(Ok(()))
}

pub(super) fn seal(
    connection: &Connection,
    generation: Generation,
    seal: Seal,
) -> rusqlite::Result<Result<Sealing, ApplyError>> {
    match state(connection, generation)? {
        State::Gone => Ok(Err(ApplyError::Gone(generation))),
        State::Sealed(other) if other != seal => Ok(Err(ApplyError::Sealed(generation))),
        State::Sealed(_) | State::Open => {
            let key = params![generation.0, seal.0.as_bytes()];
            connection.execute("UPDATE generations SET seal = ?2 WHERE number = ?1", key)?;
            // The writes of a file follow each other, so none is let through when a seal is set again.
            Ok(Ok(Sealing { seal, id: Uuid::nil() }))
        }
    }
}

pub(super) fn unseal(connection: &Connection, generation: Generation, seal: Seal) -> rusqlite::Result<()> {
    let key = params![generation.0, seal.0.as_bytes()];
    connection.execute("UPDATE generations SET seal = NULL WHERE number = ?1 AND seal = ?2", key)?;
    Ok(())
}

pub(super) fn discard(connection: &Connection, generation: Generation) -> rusqlite::Result<()> {
    if active(connection)? == Some(generation) {
        return Ok(());
    }
    connection.execute("DELETE FROM generations WHERE number = ?1", [generation.0])?;
    connection.execute("DELETE FROM checkpoints WHERE generation = ?1", [generation.0])?;
    connection.execute("DELETE FROM parked WHERE generation = ?1", [generation.0])?;
    connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", table(generation)))
}
