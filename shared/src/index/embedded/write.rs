//! Writes to one generation; whether they are allowed was checked before, in the same transaction.

use rusqlite::{CachedStatement, Connection, Error, OptionalExtension, params};

use super::row::table;
use crate::coordinate::Epoch;
use crate::id::AccountId;
use crate::index::{Applied, Balance, Checkpoint, Generation, Parked};
use crate::partition::Slot;

pub(super) fn apply(
    connection: &Connection,
    generation: Generation,
    balances: &[(Slot, Balance)],
    parked: &[Parked],
) -> rusqlite::Result<Applied> {
    let applied = upsert(connection, generation, balances, "excluded.version > version")?;
    // The documents are written, so an entry that one of them has passed is replaced in the same statement.
    let mut park = connection.prepare_cached(&format!(
        "INSERT INTO parked (generation, account, slot, at, reason, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (generation, account) DO UPDATE SET
             at = excluded.at, reason = excluded.reason, since = excluded.since
         WHERE parked.at <= (SELECT version FROM {} WHERE slot = ?3 AND id = ?2)",
        table(generation)
    ))?;
    for entry in parked {
        let slot = Slot::of(&entry.account).get();
        let (account, since) = (entry.account.as_bytes(), entry.since.as_micros());
        park.execute(params![generation.0, account, slot, entry.at.get(), entry.reason, since])?;
    }
    Ok(applied)
}

pub(super) fn repair(
    connection: &Connection,
    generation: Generation,
    balances: &[(Slot, Balance)],
) -> rusqlite::Result<()> {
    upsert(connection, generation, balances, "excluded.version >= version").map(|_| ())
}

/// Writes documents; replaces an old one only if `wins` holds (law X2).
fn upsert(
    connection: &Connection,
    generation: Generation,
    balances: &[(Slot, Balance)],
    wins: &'static str,
) -> rusqlite::Result<Applied> {
    let table = table(generation);
    // The owner is not set here, because SQLite would remove the row from the tree by owner and insert it again even if
    // the name is the same, which it nearly always is: a quarter of all pages written.
    let mut upsert = connection.prepare_cached(&format!(
        "INSERT INTO {table} (slot, id, event_id, owner, status, currency, balance, version, opened_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (slot, id) DO UPDATE SET
             event_id = excluded.event_id, status = excluded.status,
             currency = excluded.currency, balance = excluded.balance, version = excluded.version,
             opened_at = excluded.opened_at, updated_at = excluded.updated_at
         WHERE {wins}"
    ))?;
    let mut rename = connection
        .prepare_cached(&format!("UPDATE {table} SET owner = ?3 WHERE slot = ?1 AND id = ?2 AND owner <> ?3"))?;
    let mut written = 0;
    for (slot, balance) in balances {
        if upsert_one(&mut upsert, *slot, balance)? == 1 {
            written += 1;
            rename.execute(params![slot.get(), balance.id.as_bytes(), balance.owner.as_str()])?;
        }
    }
    Ok(Applied { written, stale: balances.len() - written })
}

fn upsert_one(upsert: &mut CachedStatement<'_>, slot: Slot, balance: &Balance) -> rusqlite::Result<usize> {
    upsert.execute(params![
        slot.get(),
        balance.id.as_bytes(),
        balance.event_id.number().to_be_bytes(),
        balance.owner.as_str(),
        balance.status.as_str(),
        balance.currency.code(),
        balance.balance.get(),
        balance.version.get(),
        balance.opened_at.as_micros(),
        balance.updated_at.as_micros(),
    ])
}

pub(super) fn unpark(connection: &Connection, generation: Generation, accounts: &[AccountId]) -> rusqlite::Result<()> {
    let mut unpark = connection.prepare_cached("DELETE FROM parked WHERE generation = ?1 AND account = ?2")?;
    for account in accounts {
        unpark.execute(params![generation.0, account.as_bytes()])?;
    }
    Ok(())
}

/// The epoch of the stored checkpoint, if it is higher than that of the new one (law X3).
pub(super) fn higher_epoch(
    connection: &Connection,
    generation: Generation,
    checkpoint: &Checkpoint,
) -> rusqlite::Result<Option<Epoch>> {
    let stored = connection
        .prepare_cached("SELECT epoch FROM checkpoints WHERE generation = ?1 AND partition = ?2 AND epoch > ?3")?
        .query_row(params![generation.0, checkpoint.partition.get(), checkpoint.epoch.get()], |row| row.get(0));
    Ok(stored.optional()?.map(Epoch::new))
}

pub(super) fn checkpoint(
    connection: &Connection,
    generation: Generation,
    checkpoint: &Checkpoint,
) -> rusqlite::Result<()> {
    let phase =
        serde_json::to_string(&checkpoint.phase).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO checkpoints (generation, partition, epoch, incarnation, after, phase)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            generation.0,
            checkpoint.partition.get(),
            checkpoint.epoch.get(),
            checkpoint.incarnation.0,
            checkpoint.offset.get(),
            phase,
        ])?;
    Ok(())
}
