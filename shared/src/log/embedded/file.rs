//! What the log does inside one transaction of its file.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::clock::Timestamp;
use crate::coordinate::{Offset, Version};
use crate::event::{EncodedEvents, Recorded};
use crate::id::AccountId;
use crate::log::{Extent, Incarnation, Record};
use crate::partition::Partition;

/// How many bits of a place are the offset: 2^48 records last a partition for ever.
const OFFSET_BITS: u32 = 48;

/// The row of a record.
fn place(partition: Partition, offset: Offset) -> u64 {
    (u64::from(partition.get()) << OFFSET_BITS) + offset.get()
}

/// What was found when the file was opened.
pub(super) enum Started {
    /// The log as it was left.
    Known,
    /// An empty log: a new one, or one that may have lost its end since.
    Renewed,
    /// A log with another number of partitions; nothing was changed.
    Differs(u16),
}

/// Takes the file into use for this start of the machine.
pub(super) fn start(
    connection: &Connection,
    partitions: u16,
    machine_start: &str,
    lives: &[(Partition, Incarnation)],
) -> rusqlite::Result<Started> {
    let stored = connection.query_row("SELECT partitions, machine_start FROM log", [], |row| {
        Ok((row.get::<_, u16>(0)?, row.get::<_, String>(1)?))
    });
    match stored.optional()? {
        Some((stored, _)) if stored != partitions => return Ok(Started::Differs(stored)),
        Some((_, written_in)) if written_in == machine_start => return Ok(Started::Known),
        Some(_) | None => {}
    }
    connection.execute(
        "INSERT OR REPLACE INTO log (one, partitions, machine_start) VALUES (1, ?1, ?2)",
        params![partitions, machine_start],
    )?;
    connection.execute("DELETE FROM records", [])?;
    for (partition, life) in lives {
        begin(connection, *partition, life)?;
    }
    Ok(Started::Renewed)
}

/// An empty partition of this life.
fn begin(connection: &Connection, partition: Partition, life: &Incarnation) -> rusqlite::Result<Extent> {
    connection.execute(
        "INSERT OR REPLACE INTO partitions (number, incarnation, trimmed, last) VALUES (?1, ?2, 0, 0)",
        params![partition.get(), life.0],
    )?;
    Ok(Extent { incarnation: life.clone(), trimmed: Offset::START, last: Offset::START })
}

pub(super) fn extent(connection: &Connection, partition: Partition) -> rusqlite::Result<Extent> {
    connection.prepare_cached("SELECT incarnation, trimmed, last FROM partitions WHERE number = ?1")?.query_row(
        [partition.get()],
        |row| {
            Ok(Extent {
                incarnation: Incarnation(row.get(0)?),
                trimmed: Offset::new(row.get(1)?),
                last: Offset::new(row.get(2)?),
            })
        },
    )
}

/// What became of a batch.
pub(super) enum Published {
    /// All of it was written; this is the new end.
    Behind(Offset),
    /// Nothing was written: the partition is this one.
    Conflict(Extent),
    /// Nothing was written: there is no room.
    Full,
}

pub(super) fn publish(
    connection: &Connection,
    partition: Partition,
    incarnation: &Incarnation,
    after: Offset,
    batch: &[Recorded],
    now: Timestamp,
    records_max: u64,
) -> rusqlite::Result<Published> {
    let current = extent(connection, partition)?;
    if current.incarnation != *incarnation || current.last != after {
        return Ok(Published::Conflict(current));
    }
    if current.last.get() - current.trimmed.get() + batch.len() as u64 > records_max {
        return Ok(Published::Full);
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO records (place, stream, first_version, count, time, published, events)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut last = after;
    for recorded in batch {
        last = last.next();
        insert.execute(params![
            place(partition, last),
            recorded.stream.as_bytes(),
            recorded.first_version.get(),
            recorded.events.count,
            recorded.time.as_micros(),
            now.as_micros(),
            &*recorded.events.json,
        ])?;
    }
    connection
        .prepare_cached("UPDATE partitions SET last = ?2 WHERE number = ?1")?
        .execute(params![partition.get(), last.get()])?;
    Ok(Published::Behind(last))
}

/// What follows a place of this life, or where the partition went.
pub(super) fn read(
    connection: &Connection,
    partition: Partition,
    incarnation: &Incarnation,
    after: Offset,
    limit: usize,
) -> rusqlite::Result<Result<Vec<Record>, Extent>> {
    let current = extent(connection, partition)?;
    let continues = current.trimmed <= after && after <= current.last;
    if current.incarnation != *incarnation || !continues {
        return Ok(Err(current));
    }
    let mut records = Vec::with_capacity(limit.min(usize::try_from(current.last.get() - after.get()).unwrap_or(limit)));
    let mut read_on = connection.prepare_cached(
        "SELECT stream, first_version, count, time, events FROM records
         WHERE place > ?1 AND place <= ?2 ORDER BY place LIMIT ?3",
    )?;
    let mut rows = read_on.query(params![place(partition, after), place(partition, current.last), limit])?;
    let mut offset = after;
    while let Some(row) = rows.next()? {
        offset = offset.next();
        records.push(Record { offset, recorded: recorded(row)? });
    }
    Ok(Ok(records))
}

fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    Ok(Recorded {
        stream: AccountId::from_bytes(row.get(0)?),
        first_version: Version::new(row.get(1)?),
        time: Timestamp::from_micros(row.get(3)?),
        events: EncodedEvents { count: row.get(2)?, json: Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?) },
    })
}

/// What was forgotten.
pub(super) struct Trimmed {
    /// How many records.
    pub(super) records: u64,
    /// The last of all that were ever forgotten.
    pub(super) through: Offset,
}

/// Forgets at most `limit` records from the front, up to the first that is too young to forget: what a partition holds
/// has no hole, also if the clock that dated it was set back.
pub(super) fn trim(
    connection: &Connection,
    partition: Partition,
    through: Offset,
    before: Timestamp,
    limit: u64,
) -> rusqlite::Result<Trimmed> {
    let current = extent(connection, partition)?;
    let reach = Offset::new(current.trimmed.get() + limit).min(through).min(current.last);
    if reach <= current.trimmed {
        return Ok(Trimmed { records: 0, through: current.trimmed });
    }
    let (from, to) = (place(partition, current.trimmed), place(partition, reach));
    let too_young: Option<u64> = connection
        .prepare_cached(
            "SELECT place FROM records WHERE place > ?1 AND place <= ?2 AND published >= ?3 ORDER BY place LIMIT 1",
        )?
        .query_row(params![from, to, before.as_micros()], |row| row.get(0))
        .optional()?;
    let end = too_young.map_or(to, |young| young - 1);
    connection.prepare_cached("DELETE FROM records WHERE place > ?1 AND place <= ?2")?.execute(params![from, end])?;
    let through = Offset::new(current.trimmed.get() + (end - from));
    connection
        .prepare_cached("UPDATE partitions SET trimmed = ?2 WHERE number = ?1")?
        .execute(params![partition.get(), through.get()])?;
    Ok(Trimmed { records: end - from, through })
}

pub(super) fn renew(
    connection: &Connection,
    partition: Partition,
    expected: &Incarnation,
    next: &Incarnation,
) -> rusqlite::Result<Extent> {
    let current = extent(connection, partition)?;
    if current.incarnation != *expected {
        return Ok(current);
    }
    let (from, to) = (place(partition, Offset::START), place(partition, current.last));
    connection.execute("DELETE FROM records WHERE place > ?1 AND place <= ?2", params![from, to])?;
    begin(connection, partition, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Partition = Partition::new(1);
    const NO_END: u64 = 1_000;

    fn empty() -> (Connection, Incarnation) {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema_1.sql")).unwrap();
        let life = Incarnation("first".into());
        let started = start(&connection, 1, "this start", &[(ONE, life.clone())]).unwrap();
        assert!(matches!(started, Started::Renewed));
        (connection, life)
    }

    fn writes(count: u64) -> Vec<Recorded> {
        let write = |version| Recorded {
            stream: AccountId::from_bytes([1; 16]),
            first_version: Version::new(version),
            time: Timestamp::EPOCH,
            events: EncodedEvents { count: 1, json: Bytes::from_static(b"[{}]") },
        };
        (1..=count).map(write).collect()
    }

    /// Publishes behind the end at a time.
    fn publish_at(connection: &Connection, life: &Incarnation, count: u64, micros: i64, records_max: u64) -> Published {
        let after = extent(connection, ONE).unwrap().last;
        publish(connection, ONE, life, after, &writes(count), Timestamp::from_micros(micros), records_max).unwrap()
    }

    #[test]
    fn a_full_partition_takes_nothing_until_it_is_trimmed() {
        let (connection, life) = empty();
        assert!(matches!(publish_at(&connection, &life, 8, 0, 10), Published::Behind(_)));
        assert!(matches!(publish_at(&connection, &life, 3, 0, 10), Published::Full));
        assert_eq!(extent(&connection, ONE).unwrap().last, Offset::new(8));
        assert_eq!(trim(&connection, ONE, Offset::new(1), Timestamp::from_micros(1), NO_END).unwrap().records, 1);
        assert!(matches!(publish_at(&connection, &life, 3, 0, 10), Published::Behind(last) if last == Offset::new(11)));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_hole() {
        let (connection, life) = empty();
        for micros in [10, 30, 20, 40] {
            publish_at(&connection, &life, 2, micros, NO_END);
        }
        let forgotten = trim(&connection, ONE, Offset::new(8), Timestamp::from_micros(25), NO_END).unwrap();
        assert_eq!(
            (forgotten.records, forgotten.through),
            (2, Offset::new(2)),
            "what lies behind the first young record stays"
        );
        let rest = read(&connection, ONE, &life, Offset::new(2), 100).unwrap().unwrap();
        assert_eq!(rest.len(), 6);
        assert!(read(&connection, ONE, &life, Offset::new(1), 100).unwrap().is_err());
    }
}
