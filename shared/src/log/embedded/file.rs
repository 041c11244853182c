//! What the log does inside one transaction of its file.

use std::ops::Range;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::part::{BODY, Damage, Part};
use crate::clock::Timestamp;
use crate::coordinate::Offset;
use crate::log::{Extent, Incarnation, Record};
use crate::partition::Partition;

/// How many bits of a place hold the offset: 2^48 records are enough for ever.
const OFFSET_BITS: u32 = 48;

/// The key of the row that ends with a record.
fn place(partition: Partition, offset: Offset) -> u64 {
    (u64::from(partition.get()) << OFFSET_BITS) + offset.get()
}

/// The offset of a row's last record.
const fn offset(place: u64) -> Offset {
    Offset::new(place & ((1 << OFFSET_BITS) - 1))
}

/// What a log was made for.
#[derive(PartialEq, Eq)]
pub(super) struct Made {
    pub(super) partitions: u16,
    /// The boot of the machine.
    pub(super) machine_start: String,
}

/// What the log in the file was made for; `None` if the file is new.
pub(super) fn made(connection: &Connection) -> rusqlite::Result<Option<Made>> {
    let made = |row: &Row<'_>| Ok(Made { partitions: row.get(0)?, machine_start: row.get(1)? });
    connection.query_row("SELECT partitions, machine_start FROM log", [], made).optional()
}

/// Makes an empty log in a new file.
pub(super) fn make(connection: &Connection, made: &Made, lives: &[(Partition, Incarnation)]) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO log (one, partitions, machine_start) VALUES (1, ?1, ?2)",
        params![made.partitions, made.machine_start],
    )?;
    for (partition, life) in lives {
        begin(connection, *partition, life)?;
    }
    Ok(())
}

/// Begins this incarnation of a partition, empty.
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
    /// Nothing was written: the partition has this extent.
    Conflict(Extent),
    /// Nothing was written: there is no room.
    Full,
}

pub(super) fn publish(
    connection: &Connection,
    partition: Partition,
    incarnation: &Incarnation,
    after: Offset,
    batch: &[Part],
    now: Timestamp,
    records_max: u64,
) -> rusqlite::Result<Published> {
    let current = extent(connection, partition)?;
    if current.incarnation != *incarnation || current.last != after {
        return Ok(Published::Conflict(current));
    }
    let records: u64 = batch.iter().map(|part| part.count).sum();
    if current.last.get() - current.trimmed.get() + records > records_max {
        return Ok(Published::Full);
    }
    let mut insert =
        connection.prepare_cached("INSERT INTO parts (place, count, published, body) VALUES (?1, ?2, ?3, ?4)")?;
    let mut last = after;
    for part in batch {
        last = Offset::new(last.get() + part.count);
        insert.execute(params![place(partition, last), part.count, now.as_micros(), &*part.body])?;
    }
    connection
        .prepare_cached("UPDATE partitions SET last = ?2 WHERE number = ?1")?
        .execute(params![partition.get(), last.get()])?;
    Ok(Published::Behind(last))
}

/// The records after an offset of this incarnation, or the extent if the partition does not continue from there. Reads
/// whole rows until there are at least `limit` records, so what is read too early is at most one row.
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
    let mut read_on = connection
        .prepare_cached("SELECT place, count, body FROM parts WHERE place > ?1 AND place <= ?2 ORDER BY place")?;
    let mut rows = read_on.query(params![place(partition, after), place(partition, current.last)])?;
    let (mut records, mut reached) = (Vec::new(), after);
    while records.len() < limit && reached < current.last {
        let row = rows.next()?.ok_or(Damage::Missing(reached))?;
        let last = offset(row.get(0)?);
        records.extend(part(row)?.behind(reached, last)?);
        reached = last;
    }
    Ok(Ok(records))
}

fn part(row: &Row<'_>) -> rusqlite::Result<Part> {
    Ok(Part { count: row.get(1)?, body: Bytes::copy_from_slice(row.get_ref(BODY)?.as_blob()?) })
}

/// What a trim removed.
pub(super) struct Trimmed {
    /// How many records.
    pub(super) records: u64,
    /// The last record ever removed.
    pub(super) through: Offset,
}

/// Removes at most `limit` records from the front, in whole rows, and stops at the first row with one of the dates that
/// are too young. So the remaining records have no hole, even if the clock that dated them was set back.
pub(super) fn trim(
    connection: &Connection,
    partition: Partition,
    through: Offset,
    young: &Range<Timestamp>,
    limit: u64,
) -> rusqlite::Result<Trimmed> {
    let current = extent(connection, partition)?;
    let reach = Offset::new(current.trimmed.get() + limit).min(through).min(current.last);
    let (from, to) = (place(partition, current.trimmed), place(partition, reach.max(current.trimmed)));
    let Some(end) = last_old(connection, from, to, young)? else {
        return Ok(Trimmed { records: 0, through: current.trimmed });
    };
    connection.prepare_cached("DELETE FROM parts WHERE place > ?1 AND place <= ?2")?.execute(params![from, end])?;
    let through = offset(end);
    connection
        .prepare_cached("UPDATE partitions SET trimmed = ?2 WHERE number = ?1")?
        .execute(params![partition.get(), through.get()])?;
    Ok(Trimmed { records: end - from, through })
}

/// The last row after `from` and up to `to` that comes before the first one too young to remove.
fn last_old(connection: &Connection, from: u64, to: u64, young: &Range<Timestamp>) -> rusqlite::Result<Option<u64>> {
    let too_young: Option<u64> = connection
        .prepare_cached(
            "SELECT place FROM parts
             WHERE place > ?1 AND place <= ?2 AND published >= ?3 AND published < ?4 ORDER BY place LIMIT 1",
        )?
        .query_row(params![from, to, young.start.as_micros(), young.end.as_micros()], |row| row.get(0))
        .optional()?;
    let to = too_young.map_or(to, |young| young - 1);
    connection
        .prepare_cached("SELECT place FROM parts WHERE place > ?1 AND place <= ?2 ORDER BY place DESC LIMIT 1")?
        .query_row(params![from, to], |row| row.get(0))
        .optional()
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
    connection.execute("DELETE FROM parts WHERE place > ?1 AND place <= ?2", params![from, to])?;
    begin(connection, partition, next)
}

#[cfg(test)]
mod tests {
    use super::super::LOG;
    use super::*;
    use crate::log::contract::plain_entries;

    const ONE: Partition = Partition::new(1);
    const NO_END: u64 = 1_000_000;

    fn empty() -> (Connection, Incarnation) {
        let connection = Connection::open_in_memory().unwrap();
        for step in LOG.schema {
            connection.execute_batch(step).unwrap();
        }
        let life = Incarnation("first".into());
        let one = Made { partitions: 1, machine_start: "this start".to_owned() };
        make(&connection, &one, &[(ONE, life.clone())]).unwrap();
        (connection, life)
    }

    /// Publishes `count` writes at the end, at a given time.
    fn publish_at(connection: &Connection, life: &Incarnation, count: u64, micros: i64, records_max: u64) -> Published {
        let (after, batch) = (extent(connection, ONE).unwrap().last, Part::all_of(&plain_entries(1..=count)));
        publish(connection, ONE, life, after, &batch, Timestamp::from_micros(micros), records_max).unwrap()
    }

    /// Trims what is older than a time, up to an offset; returns how many records went, and the last one ever removed.
    fn trim_at(connection: &Connection, through: u64, micros: i64, limit: u64) -> (u64, u64) {
        let young = Timestamp::from_micros(micros)..Timestamp::from_micros(i64::MAX);
        let trimmed = trim(connection, ONE, Offset::new(through), &young, limit).unwrap();
        assert_eq!(extent(connection, ONE).unwrap().trimmed, trimmed.through);
        (trimmed.records, trimmed.through.get())
    }

    fn offsets(connection: &Connection, life: &Incarnation, after: u64, limit: usize) -> Vec<u64> {
        let records = read(connection, ONE, life, Offset::new(after), limit).unwrap().unwrap();
        records.iter().map(|record| record.offset.get()).collect()
    }

    #[test]
    fn a_full_partition_takes_nothing_until_it_is_trimmed() {
        let (connection, life) = empty();
        assert!(matches!(publish_at(&connection, &life, 1, 0, 10), Published::Behind(_)));
        assert!(matches!(publish_at(&connection, &life, 7, 0, 10), Published::Behind(_)));
        assert!(matches!(publish_at(&connection, &life, 3, 0, 10), Published::Full));
        assert_eq!(extent(&connection, ONE).unwrap().last, Offset::new(8));
        assert_eq!(trim_at(&connection, 1, 1, NO_END), (1, 1));
        assert!(matches!(publish_at(&connection, &life, 3, 0, 10), Published::Behind(last) if last == Offset::new(11)));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_hole() {
        let (connection, life) = empty();
        for micros in [10, 30, 20, 40] {
            publish_at(&connection, &life, 2, micros, NO_END);
        }
        assert_eq!(trim_at(&connection, 8, 25, NO_END), (2, 2), "what lies behind the first young record stays");
        assert_eq!(offsets(&connection, &life, 2, 100), [3, 4, 5, 6, 7, 8]);
        assert!(read(&connection, ONE, &life, Offset::new(1), 100).unwrap().is_err());
    }

    #[test]
    fn a_row_holds_as_many_records_as_a_part_and_is_read_whole_from_any_place_in_it() {
        let (connection, life) = empty();
        publish_at(&connection, &life, 2_500, 0, NO_END);
        publish_at(&connection, &life, 1, 0, NO_END);
        let mut rows = connection.prepare("SELECT place - (1 << 48), count FROM parts ORDER BY place").unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let rows: Vec<(u64, u64)> = rows.map(Result::unwrap).collect();
        assert_eq!(rows, [(1_000, 1_000), (2_000, 1_000), (2_500, 500), (2_501, 1)]);
        for (after, limit, end) in [
            (0, 1, 1_000),
            (998, 1, 1_000),
            (999, 2, 2_000),
            (1_000, 1_500, 2_500),
            (2_499, 9, 2_501),
            (2_501, 9, 2_501),
        ] {
            let expected: Vec<u64> = (after + 1..=end).collect();
            assert_eq!(offsets(&connection, &life, after, limit), expected, "{limit} after {after}");
        }
        assert_eq!(offsets(&connection, &life, 700, 0), [0; 0]);
    }

    #[test]
    fn a_row_is_forgotten_when_all_of_it_may_go_and_the_last_one_as_well() {
        let (connection, life) = empty();
        publish_at(&connection, &life, 2_500, 0, NO_END);
        for (through, limit, expected) in [
            (999, NO_END, (0, 0)),
            (1_999, NO_END, (1_000, 1_000)),
            (2_500, 999, (0, 1_000)),
            (500, NO_END, (0, 1_000)),
            (2_500, 1_499, (1_000, 2_000)),
        ] {
            assert_eq!(trim_at(&connection, through, 1, limit), expected, "{limit} through {through}");
        }
        assert_eq!(offsets(&connection, &life, 2_000, 1).len(), 500);
        assert_eq!(trim_at(&connection, 9_999, 1, NO_END), (500, 2_500));
        publish_at(&connection, &life, 2, 0, NO_END);
        assert_eq!(offsets(&connection, &life, 2_500, 9), [2_501, 2_502]);
    }
}
