//! Reads of the tables in the file; the recent rows in memory are merged in where a page needs both.

use std::collections::BTreeMap;

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension, Row, Rows, ffi, params};

use super::recent::{self, Place, Recent, place};
use super::{blob, recorded};
use crate::clock::Timestamp;
use crate::coordinate::{Position, Version};
use crate::event::{Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::{Slot, SlotRange};
use crate::store::{FeedEntry, IdempotencyKey, KeyedRequest, ScanPage, StoredCommit};

const COMMIT_BY_ID: &str = "SELECT id, time, key, request, receipt FROM commits WHERE id = ?1";
const COMMIT_BY_KEY: &str = "SELECT id, time, key, request, receipt FROM commits WHERE key = ?1";
pub(super) const HEAD: &str = "SELECT first_version + count - 1 FROM writes WHERE slot = ?1 AND stream = ?2
                               ORDER BY first_version DESC LIMIT 1";

/// A row of [`COMMIT_BY_ID`] or [`COMMIT_BY_KEY`].
fn stored_commit(row: &Row<'_>) -> rusqlite::Result<StoredCommit> {
    commit_at(row, 0)
}

/// Reads the columns `id, time, key, request, receipt`, beginning with `first`.
pub(super) fn commit_at(row: &Row<'_>, first: usize) -> rusqlite::Result<StoredCommit> {
    let key: Option<Box<str>> = row.get(first + 2)?;
    let key = key.map(|key| {
        let known = |error| Error::FromSqlConversionFailure(first + 2, Type::Text, Box::new(error));
        let key = IdempotencyKey::new(&key).map_err(known)?;
        Ok::<_, Error>(KeyedRequest { key, request: row.get(first + 3)? })
    });
    Ok(StoredCommit {
        id: CommitId::from_bytes(row.get(first)?),
        time: Timestamp::from_micros(row.get(first + 1)?),
        key: key.transpose()?,
        receipt: blob(row, first + 4)?,
    })
}

pub(super) fn commits(connection: &Connection, ids: &[CommitId]) -> rusqlite::Result<Vec<Option<StoredCommit>>> {
    let mut find = connection.prepare_cached(COMMIT_BY_ID)?;
    ids.iter().map(|id| find.query_row([id.as_bytes()], stored_commit).optional()).collect()
}

pub(super) fn keys(connection: &Connection, keys: &[IdempotencyKey]) -> rusqlite::Result<Vec<Option<StoredCommit>>> {
    let mut find = connection.prepare_cached(COMMIT_BY_KEY)?;
    keys.iter().map(|key| find.query_row([key.as_str()], stored_commit).optional()).collect()
}

/// The position of the newest write; zero if there is none.
pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<u64> {
    let mut find = connection.prepare_cached(
        "SELECT coalesce((SELECT max(position) FROM recent), (SELECT max(position) FROM positions), 0)",
    )?;
    find.query_row([], |row| row.get(0))
}

/// What `writes` holds of these streams up to position `settled`, until each has at least `limit_each` events.
pub(super) fn streams(
    connection: &Connection,
    streams: impl Iterator<Item = StreamAfter>,
    limit_each: usize,
    settled: u64,
) -> rusqlite::Result<Vec<Vec<Recorded>>> {
    let mut read_on = connection.prepare_cached(
        "SELECT stream, first_version, count, time, events, position FROM writes
         WHERE slot = ?1 AND stream = ?2 AND first_version > ?3 ORDER BY first_version",
    )?;
    let mut read_one = |StreamAfter { stream, after }| {
        let rows = read_on.query(params![Slot::of(&stream).get(), stream.as_bytes(), after.get()])?;
        let (mut rows, mut records, mut events) = (SettledRows { rows, settled }, Vec::new(), 0);
        while events < limit_each {
            let Some(record) = rows.next()? else { break };
            events += record.events.count as usize;
            records.push(record);
        }
        Ok(records)
    };
    streams.map(&mut read_one).collect()
}

/// Rows of `stream, first_version, count, time, events, position` up to a position.
struct SettledRows<'r> {
    rows: Rows<'r>,
    settled: u64,
}

impl SettledRows<'_> {
    fn next(&mut self) -> rusqlite::Result<Option<Recorded>> {
        while let Some(row) = self.rows.next()? {
            if row.get::<_, u64>(5)? <= self.settled {
                return recorded(row).map(Some);
            }
        }
        Ok(None)
    }
}

/// A page that merges what `writes` holds up to position `settled` with the `recent` writes after it: about `limit`
/// events of those, or all there are.
pub(super) fn scan(
    connection: &Connection,
    slots: SlotRange,
    after: Option<StreamAfter>,
    limit: usize,
    settled: u64,
    recent: Vec<Recorded>,
) -> rusqlite::Result<ScanPage> {
    let mut read_on = connection.prepare_cached(
        "SELECT stream, first_version, count, time, events, position FROM writes
         WHERE (slot, stream, first_version) > (?1, ?2, ?3) AND slot < ?4 ORDER BY slot, stream, first_version",
    )?;
    let (slot, stream) = behind(slots, after.map(|after| after.stream));
    let version = after.map_or(Version::EMPTY, |after| after.after);
    let rows = read_on.query(params![slot, stream, version.get(), slots.end])?;
    let (mut rows, mut recent) = (SettledRows { rows, settled }, recent.into_iter().peekable());
    let mut older = rows.next()?;
    let (mut records, mut events) = (Vec::new(), 0);
    loop {
        let newer = recent.next_if(|newer| older.as_ref().is_none_or(|older| order(newer) < order(older)));
        let record = if let Some(newer) = newer {
            newer
        } else if let Some(record) = older.take() {
            older = rows.next()?;
            record
        } else {
            return Ok(ScanPage { records, next: None });
        };
        events += record.events.count as usize;
        let reached = StreamAfter { stream: record.stream, after: record.last_version() };
        records.push(record);
        if events >= limit {
            return Ok(ScanPage { records, next: Some(reached) });
        }
    }
}

fn order(record: &Recorded) -> (Place, Version) {
    (place(record.stream), record.first_version)
}

/// Jumps from stream to stream, so that a long stream costs no more than a short one. `recent` has the first recent
/// streams after the same place, up to the same limit.
pub(super) fn heads(
    connection: &Connection,
    slots: SlotRange,
    after: Option<AccountId>,
    limit: usize,
    recent: Vec<(AccountId, Version)>,
) -> rusqlite::Result<Vec<(AccountId, Version)>> {
    let mut find_next = connection.prepare_cached(
        "SELECT slot, stream FROM writes WHERE (slot, stream) > (?1, ?2) AND slot < ?3 ORDER BY slot, stream LIMIT 1",
    )?;
    let mut find_head = connection.prepare_cached(HEAD)?;
    let mut heads: BTreeMap<Place, Version> = recent.into_iter().map(|(stream, head)| (place(stream), head)).collect();
    let (mut slot, mut stream) = behind(slots, after);
    for _ in 0..limit {
        let next = find_next.query_row(params![slot, stream, slots.end], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some(next): Option<(u16, [u8; 16])> = next.optional()? else { break };
        let head = Version::new(find_head.query_row(params![next.0, next.1], |row| row.get(0))?);
        let known = heads.entry((next.0, AccountId::from_bytes(next.1))).or_default();
        *known = head.max(*known);
        (slot, stream) = (next.0, next.1.to_vec());
    }
    Ok(heads.into_iter().map(|((_, stream), head)| (stream, head)).take(limit).collect())
}

/// The place in the order of the table after which a page begins; an empty stream id sorts before every other.
fn behind(slots: SlotRange, stream: Option<AccountId>) -> (u16, Vec<u8>) {
    match stream {
        Some(stream) => (Slot::of(&stream).get(), stream.as_bytes().to_vec()),
        None => (slots.start, Vec::new()),
    }
}

/// Writes with positions after `after` up to `settled`, in position order. They are looked up in storage order, so that
/// those of one account, which share a page, are read one after another: the more are asked for at once, the fewer
/// pages each costs. Checks before each look-up whether the read is still wanted.
pub(super) fn fed(
    connection: &Connection,
    after: u64,
    limit: usize,
    settled: u64,
    wanted: impl Fn() -> rusqlite::Result<()>,
) -> rusqlite::Result<Vec<FeedEntry>> {
    let mut read_on = connection.prepare_cached(
        "SELECT slot, stream, first_version, position FROM positions
         WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3",
    )?;
    let place = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let mut places: Vec<(u16, [u8; 16], u64, u64)> =
        read_on.query_map(params![after, settled, limit], place)?.collect::<rusqlite::Result<_>>()?;
    places.sort_unstable();
    let mut find = connection.prepare_cached(
        "SELECT stream, first_version, count, time, events FROM writes
         WHERE slot = ?1 AND stream = ?2 AND first_version = ?3",
    )?;
    let mut found: Vec<(u64, Recorded)> = Vec::with_capacity(places.len());
    for (slot, stream, first_version, position) in places {
        wanted()?;
        found.push((position, find.query_row(params![slot, stream, first_version], recorded)?));
    }
    found.sort_unstable_by_key(|(position, _)| *position);
    let entry = |(position, recorded)| FeedEntry { position: Position::Number(position), recorded };
    Ok(found.into_iter().map(entry).collect())
}

/// Loads the recent rows from the tables.
pub(super) fn recent(connection: &Connection) -> rusqlite::Result<Recent> {
    let settled = connection.query_row("SELECT coalesce(max(position), 0) FROM positions", [], |row| row.get(0))?;
    let greatest: Option<[u8; 16]> = connection.query_row("SELECT max(id) FROM commits", [], |row| row.get(0))?;
    let mut recent = Recent::behind(settled, greatest.map(CommitId::from_bytes));
    let mut read_all = connection.prepare(
        "SELECT stream, first_version, count, time, events, position, commit_id, time, key, request, receipt
         FROM recent ORDER BY position",
    )?;
    let mut rows = read_all.query([])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, u64>(5)? != recent.last() + 1 {
            let reason = "a position is missing between what is sorted and what is recent".to_owned();
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(reason)));
        }
        let is_first = row.get_ref(6)? != ValueRef::Null;
        let commit = is_first.then(|| commit_at(row, 6)).transpose()?;
        recent.push(recent::Row { recorded: recorded(row)?, commit });
    }
    recent.commit_through(recent.last());
    Ok(recent)
}
