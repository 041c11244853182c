use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, params};

use super::{blob, recorded};
use crate::clock::Timestamp;
use crate::coordinate::{Position, Version};
use crate::event::{Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::{Slot, SlotRange};
use crate::store::{FeedEntry, IdempotencyKey, KeyedRequest, ScanPage, StoredCommit};

pub(super) const COMMIT_BY_ID: &str = "SELECT id, time, key, request, receipt FROM commits WHERE id = ?1";
pub(super) const COMMIT_BY_KEY: &str = "SELECT id, time, key, request, receipt FROM commits WHERE key = ?1";
pub(super) const HEAD: &str = "SELECT first_version + count - 1 FROM writes WHERE slot = ?1 AND stream = ?2
                               ORDER BY first_version DESC LIMIT 1";

/// A row of [`COMMIT_BY_ID`] or [`COMMIT_BY_KEY`].
pub(super) fn stored_commit(row: &Row<'_>) -> rusqlite::Result<StoredCommit> {
    let key: Option<Box<str>> = row.get(2)?;
    let key = key.map(|key| Ok::<_, Error>(KeyedRequest { key: known_key(&key)?, request: row.get(3)? }));
    Ok(StoredCommit {
        id: CommitId::from_bytes(row.get(0)?),
        time: Timestamp::from_micros(row.get(1)?),
        key: key.transpose()?,
        receipt: blob(row, 4)?,
    })
}

fn known_key(stored: &str) -> rusqlite::Result<IdempotencyKey> {
    IdempotencyKey::new(stored).map_err(|error| Error::FromSqlConversionFailure(2, Type::Text, Box::new(error)))
}

pub(super) fn commits(connection: &Connection, ids: &[CommitId]) -> rusqlite::Result<Vec<Option<StoredCommit>>> {
    let mut find = connection.prepare_cached(COMMIT_BY_ID)?;
    ids.iter().map(|id| find.query_row([id.as_bytes()], stored_commit).optional()).collect()
}

pub(super) fn keys(connection: &Connection, keys: &[IdempotencyKey]) -> rusqlite::Result<Vec<Option<StoredCommit>>> {
    let mut find = connection.prepare_cached(COMMIT_BY_KEY)?;
    keys.iter().map(|key| find.query_row([key.as_str()], stored_commit).optional()).collect()
}

/// The position of the newest write; zero for none.
pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("SELECT coalesce(max(position), 0) FROM writes")?.query_row([], |row| row.get(0))
}

pub(super) fn streams(
    connection: &Connection,
    streams: &[StreamAfter],
    limit_each: usize,
) -> rusqlite::Result<Vec<Vec<Recorded>>> {
    let mut read_on = connection.prepare_cached(
        "SELECT stream, first_version, count, time, events FROM writes
         WHERE slot = ?1 AND stream = ?2 AND first_version > ?3 ORDER BY first_version",
    )?;
    let mut answers = Vec::with_capacity(streams.len());
    for StreamAfter { stream, after } in streams {
        let mut rows = read_on.query(params![Slot::of(stream).get(), stream.as_bytes(), after.get()])?;
        let (mut records, mut events) = (Vec::new(), 0);
        while events < limit_each {
            let Some(row) = rows.next()? else { break };
            let record = recorded(row)?;
            events += record.events.count as usize;
            records.push(record);
        }
        answers.push(records);
    }
    Ok(answers)
}

pub(super) fn scan(
    connection: &Connection,
    slots: SlotRange,
    after: Option<StreamAfter>,
    limit: usize,
) -> rusqlite::Result<ScanPage> {
    let mut read_on = connection.prepare_cached(
        "SELECT stream, first_version, count, time, events FROM writes
         WHERE (slot, stream, first_version) > (?1, ?2, ?3) AND slot < ?4 ORDER BY slot, stream, first_version",
    )?;
    let (slot, stream) = behind(slots, after.map(|after| after.stream));
    let version = after.map_or(Version::EMPTY, |after| after.after);
    let mut rows = read_on.query(params![slot, stream, version.get(), slots.end])?;
    let (mut records, mut events) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let record = recorded(row)?;
        events += record.events.count as usize;
        let reached = StreamAfter { stream: record.stream, after: record.last_version() };
        records.push(record);
        if events >= limit {
            return Ok(ScanPage { records, next: Some(reached) });
        }
    }
    Ok(ScanPage { records, next: None })
}

/// Jumps from stream to stream, so that long streams cost as much as short ones.
pub(super) fn heads(
    connection: &Connection,
    slots: SlotRange,
    after: Option<AccountId>,
    limit: usize,
) -> rusqlite::Result<Vec<(AccountId, Version)>> {
    let mut find_next = connection.prepare_cached(
        "SELECT slot, stream FROM writes WHERE (slot, stream) > (?1, ?2) AND slot < ?3 ORDER BY slot, stream LIMIT 1",
    )?;
    let mut find_head = connection.prepare_cached(HEAD)?;
    let (mut slot, mut stream) = behind(slots, after);
    let mut heads = Vec::new();
    while heads.len() < limit {
        let next = find_next.query_row(params![slot, stream, slots.end], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some(next): Option<(u16, [u8; 16])> = next.optional()? else { break };
        let head = find_head.query_row(params![next.0, next.1], |row| row.get(0))?;
        heads.push((AccountId::from_bytes(next.1), Version::new(head)));
        (slot, stream) = (next.0, next.1.to_vec());
    }
    Ok(heads)
}

/// The place in the order of the table behind which a page begins; the empty stream sorts before every other.
fn behind(slots: SlotRange, stream: Option<AccountId>) -> (u16, Vec<u8>) {
    match stream {
        Some(stream) => (Slot::of(&stream).get(), stream.as_bytes().to_vec()),
        None => (slots.start, Vec::new()),
    }
}

/// Writes with positions after `after`, in the order of their positions.
pub(super) fn fed(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<FeedEntry>> {
    let mut read_on = connection.prepare_cached(
        "SELECT stream, first_version, count, time, events, position FROM writes
         WHERE position > ?1 ORDER BY position LIMIT ?2",
    )?;
    let entry = |row: &Row<'_>| Ok(FeedEntry { position: Position::Number(row.get(5)?), recorded: recorded(row)? });
    read_on.query_map(params![after, limit], entry)?.collect()
}
