//! Reads for workers, the verifier and queries of one account.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::generation;
use super::row::{self, COLUMNS, table};
use crate::clock::Timestamp;
use crate::coordinate::{Epoch, Offset, Version};
use crate::id::AccountId;
use crate::index::{Balance, Checkpoint, Generation, Loaded, Parked};
use crate::log::Incarnation;
use crate::partition::{Partition, Slot, SlotRange};

pub(super) fn checkpoint(
    connection: &Connection,
    generation: Generation,
    partition: Partition,
) -> rusqlite::Result<Option<Checkpoint>> {
    connection
        .prepare_cached(
            "SELECT epoch, incarnation, after, phase FROM checkpoints WHERE generation = ?1 AND partition = ?2",
        )?
        .query_row(params![generation.0, partition.get()], |row| {
            let phase = row.get_ref(3)?.as_str()?;
            Ok(Checkpoint {
                partition,
                epoch: Epoch::new(row.get(0)?),
                incarnation: Incarnation(row.get(1)?),
                offset: Offset::new(row.get(2)?),
                phase: serde_json::from_str(phase).map_err(|error| row::unreadable(3, Type::Text, error))?,
            })
        })
        .optional()
}

/// One document of a generation that exists.
pub(super) fn document(
    connection: &Connection,
    generation: Generation,
    account: &AccountId,
) -> rusqlite::Result<Option<Balance>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {} WHERE slot = ?1 AND id = ?2", table(generation)))?
        .query_row(params![Slot::of(account).get(), account.as_bytes()], row::balance)
        .optional()
}

/// A generation that does not exist holds no accounts.
pub(super) fn load(
    connection: &Connection,
    generation: Generation,
    accounts: &[AccountId],
) -> rusqlite::Result<Vec<Loaded>> {
    if !generation::exists(connection, generation)? {
        return Ok(vec![Loaded::default(); accounts.len()]);
    }
    let mut documents = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {} WHERE slot = ?1 AND id = ?2", table(generation)))?;
    let mut parked = connection
        .prepare_cached("SELECT account, at, reason, since FROM parked WHERE generation = ?1 AND account = ?2")?;
    let mut loaded = Vec::with_capacity(accounts.len());
    for account in accounts {
        let key = params![Slot::of(account).get(), account.as_bytes()];
        loaded.push(Loaded {
            balance: documents.query_row(key, row::balance).optional()?,
            parked: parked.query_row(params![generation.0, account.as_bytes()], parked_row).optional()?,
        });
    }
    Ok(loaded)
}

pub(super) fn versions(
    connection: &Connection,
    generation: Generation,
    slots: SlotRange,
    after: Option<AccountId>,
    limit: usize,
) -> rusqlite::Result<Vec<(AccountId, Version)>> {
    if !generation::exists(connection, generation)? {
        return Ok(Vec::new());
    }
    // An empty blob sorts before every account.
    let (slot, id) = match &after {
        Some(account) => (Slot::of(account).get(), &account.as_bytes()[..]),
        None => (slots.start, &[][..]),
    };
    let mut page = connection.prepare_cached(&format!(
        "SELECT id, version FROM {} WHERE (slot, id) > (?1, ?2) AND slot < ?3 ORDER BY slot, id LIMIT ?4",
        table(generation)
    ))?;
    let rows = page.query_map(params![slot, id, slots.end, limit], |row| {
        Ok((AccountId::from_bytes(row.get(0)?), Version::new(row.get(1)?)))
    })?;
    rows.collect()
}

pub(super) fn parked(
    connection: &Connection,
    generation: Generation,
    slots: SlotRange,
    after: Option<AccountId>,
    limit: usize,
) -> rusqlite::Result<Vec<Parked>> {
    let mut page = connection.prepare_cached(
        "SELECT account, at, reason, since FROM parked
         WHERE generation = ?1 AND account > ?2 AND slot >= ?3 AND slot < ?4 ORDER BY account LIMIT ?5",
    )?;
    let after = after.as_ref().map_or(&[][..], |account| &account.as_bytes()[..]);
    let rows = page.query_map(params![generation.0, after, slots.start, slots.end, limit], parked_row)?;
    rows.collect()
}

fn parked_row(row: &Row<'_>) -> rusqlite::Result<Parked> {
    Ok(Parked {
        account: AccountId::from_bytes(row.get(0)?),
        at: Version::new(row.get(1)?),
        reason: row.get(2)?,
        since: Timestamp::from_micros(row.get(3)?),
    })
}
