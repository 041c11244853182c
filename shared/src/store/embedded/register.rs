use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::{EmbeddedStore, blob};
use crate::coordinate::Revision;
use crate::error::BackendError;
use crate::store::{Register, Registers, WriteError};

impl Registers for EmbeddedStore {
    async fn read_register(&self, name: &str) -> Result<Option<Register>, BackendError> {
        let name = name.to_owned();
        self.database
            .read("read_register", move |connection| {
                connection
                    .prepare_cached("SELECT revision, value FROM registers WHERE name = ?1 AND value IS NOT NULL")?
                    .query_row([name], |row| {
                        Ok(Register { revision: Revision::new(row.get(0)?), value: blob(row, 1)? })
                    })
                    .optional()
            })
            .await
    }

    async fn write_register(&self, name: &str, expected: Revision, value: Bytes) -> Result<Revision, WriteError> {
        let key = name.to_owned();
        let set = move |connection: &Connection| set(connection, &key, expected, Some(&value));
        let moved = |actual| WriteError::Moved { name: name.to_owned(), expected, actual };
        self.database.write("write_register", set).await?.map_err(moved)
    }

    async fn remove_register(&self, name: &str, expected: Revision) -> Result<(), WriteError> {
        let key = name.to_owned();
        let set = move |connection: &Connection| set(connection, &key, expected, None);
        let moved = |actual| WriteError::Moved { name: name.to_owned(), expected, actual };
        self.database.write("remove_register", set).await?.map(drop).map_err(moved)
    }

    async fn list_registers(&self, prefix: &str) -> Result<Vec<(String, Register)>, BackendError> {
        let prefix = prefix.to_owned();
        self.database.read("list_registers", move |connection| list(connection, &prefix)).await
    }
}

/// Sets or removes a register that is at `expected`; otherwise returns its actual revision.
fn set(
    connection: &Connection,
    name: &str,
    expected: Revision,
    value: Option<&Bytes>,
) -> rusqlite::Result<Result<Revision, Revision>> {
    let mut find = connection.prepare_cached("SELECT revision, value IS NOT NULL FROM registers WHERE name = ?1")?;
    let found: Option<(u64, bool)> = find.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (last, exists) = found.map_or((Revision::ABSENT, false), |(last, exists)| (Revision::new(last), exists));
    let actual = if exists { last } else { Revision::ABSENT };
    if actual != expected {
        return Ok(Err(actual));
    }
    let next = last.next();
    connection
        .prepare_cached(
            "INSERT INTO registers (name, revision, value) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, value = excluded.value",
        )?
        .execute(params![name, next.get(), value.map(|value| &**value)])?;
    Ok(Ok(next))
}

fn list(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<(String, Register)>> {
    let mut from = connection.prepare_cached(
        "SELECT name, revision, value FROM registers WHERE name >= ?1 AND value IS NOT NULL ORDER BY name",
    )?;
    let mut rows = from.query([prefix])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if !name.starts_with(prefix) {
            break;
        }
        found.push((name, Register { revision: Revision::new(row.get(1)?), value: blob(row, 2)? }));
    }
    Ok(found)
}
