//! The file itself: one of an earlier release, rows that are read in pieces, rows that are damaged.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::params;
use tempfile::TempDir;

use super::*;
use crate::coordinate::Version;
use crate::error::{Effect, Retry};
use crate::log::PartitionReader;
use crate::log::contract::plain_entries;

const ONE: Partition = Partition::new(1);
const TWO: Partition = Partition::new(2);
const FAR_FUTURE: Timestamp = Timestamp::from_micros(i64::MAX);

async fn opened(path: &Path) -> EmbeddedLog {
    let folder = DataFolder::open(path).unwrap();
    let clock = Clock::system();
    EmbeddedLog::open(&folder, PartitionMap::new(2).unwrap(), clock.clone(), Ids::new(clock)).await.unwrap()
}

/// Publishes the versions after the end of a partition up to `to`: each record's version is its offset.
async fn publish_up_to(log: &EmbeddedLog, to: u64) -> Extent {
    let extent = log.extent(ONE).await.unwrap();
    let batch = plain_entries(extent.last.get() + 1..=to);
    let last = log.publish(ONE, &extent.incarnation, extent.last, &batch).await.unwrap();
    Extent { last, ..extent }
}

/// A log whose records are in the file only, in three rows.
async fn in_the_file() -> (EmbeddedLog, Extent, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let extent = publish_up_to(&opened(dir.path()).await, 2_500).await;
    (opened(dir.path()).await, extent, dir)
}

/// Changes the file behind the log's back.
async fn tamper(log: &EmbeddedLog, change: &'static str) {
    let changed = log.database.write("tamper", move |connection| connection.execute(change, [])).await.unwrap();
    assert!(changed > 0, "{change}");
}

/// Reads one batch and checks that every record is the next one.
async fn read(reader: &mut EmbeddedReader, behind: &mut u64, limit: usize) -> Result<(), ReadError> {
    let batch = reader.next_batch(limit).await?;
    assert!(batch.len() <= limit);
    for record in batch {
        *behind += 1;
        let version = record.recorded.first_version;
        assert_eq!((record.offset, version), (Offset::new(*behind), Version::new(*behind)));
    }
    Ok(())
}

#[tokio::test]
async fn a_file_with_a_row_for_each_record_is_emptied_and_every_partition_begins_another_life() {
    let dir = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    let database = Database::open(&folder, FileSpec { schema: &LOG.schema[..1], ..LOG }).unwrap();
    let this_start = machine_start(&Ids::new(Clock::system()));
    let fill = move |connection: &rusqlite::Connection| {
        connection.execute("INSERT INTO log VALUES (1, 2, ?1)", params![this_start])?;
        connection.execute("INSERT INTO partitions VALUES (1, 'old one', 1, 3), (2, 'old two', 0, 0)", [])?;
        let record = "INSERT INTO records VALUES (?1, zeroblob(16), ?2, 1, 0, 0, CAST('[{}]' AS BLOB))";
        for offset in [2, 3] {
            connection.execute(record, params![(1_u64 << 48) + offset, offset])?;
        }
        Ok(())
    };
    database.write("fill", fill).await.unwrap();
    drop((database, folder));

    let log = opened(dir.path()).await;
    for (partition, old) in [(ONE, "old one"), (TWO, "old two")] {
        let extent = log.extent(partition).await.unwrap();
        assert_ne!(&*extent.incarnation.0, old);
        assert_eq!((extent.trimmed, extent.last), (Offset::START, Offset::START));
        let old_reader = log.reader(partition, &Incarnation(old.into()), extent.last).await;
        assert!(matches!(old_reader, Err(ReadError::Moved(told)) if told == extent));
    }
    let extent = publish_up_to(&log, 5).await;
    drop(log);
    let log = opened(dir.path()).await;
    assert_eq!(log.extent(ONE).await.unwrap(), extent, "it is emptied only once");
    let mut behind = 0;
    read(&mut log.reader(ONE, &extent.incarnation, Offset::START).await.unwrap(), &mut behind, 10).await.unwrap();
    assert_eq!(behind, 5);
}

/// Goal: a bank with a full log is not kept from starting after the machine has booted.
#[tokio::test]
async fn a_log_from_before_a_boot_is_left_for_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = || std::fs::metadata(dir.path().join(LOG.file_name)).unwrap().len();
    drop(opened(dir.path()).await);
    let empty = bytes();
    let log = opened(dir.path()).await;
    publish_up_to(&log, 2_500).await;
    tamper(&log, "UPDATE log SET machine_start = 'an earlier one'").await;
    drop(log);
    assert!(bytes() > 2 * empty, "{} bytes", bytes());
    drop(opened(dir.path()).await);
    assert_eq!(bytes(), empty);
}

#[tokio::test]
async fn a_file_with_a_row_for_each_record_and_another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    let database = Database::open(&folder, FileSpec { schema: &LOG.schema[..1], ..LOG }).unwrap();
    let fill = |connection: &rusqlite::Connection| connection.execute("INSERT INTO log VALUES (1, 3, 'then')", []);
    database.write("fill", fill).await.unwrap();
    drop(database);
    let (map, clock) = (PartitionMap::new(2).unwrap(), Clock::system());
    let refusal = EmbeddedLog::open(&folder, map, clock.clone(), Ids::new(clock)).await.unwrap_err();
    assert!(matches!(refusal, LogOpenError::Partitions { stored: 3, asked: 2, .. }), "{refusal}");
}

#[tokio::test]
async fn rows_are_read_in_pieces_from_any_place_in_them() {
    let (log, extent, _dir) = in_the_file().await;
    for after in [0, 1, 700, 999, 1_000, 1_001, 2_499] {
        for limit in [1, 700, 1_000, 4_000] {
            let mut reader = log.reader(ONE, &extent.incarnation, Offset::new(after)).await.unwrap();
            let mut behind = after;
            for _ in 0..(2_500 - after).div_ceil(limit).min(20) {
                read(&mut reader, &mut behind, usize::try_from(limit).unwrap()).await.unwrap();
            }
            assert_eq!(behind, 2_500.min(after + 20 * limit), "{limit} at once after {after}: no batch is short");
        }
    }
}

#[tokio::test]
async fn a_reader_goes_over_from_the_file_to_what_is_published_now() {
    let (log, extent, _dir) = in_the_file().await;
    let mut reader = log.reader(ONE, &extent.incarnation, Offset::new(1_999)).await.unwrap();
    let mut behind = 1_999;
    read(&mut reader, &mut behind, 400).await.unwrap();
    publish_up_to(&log, 2_600).await;
    read(&mut reader, &mut behind, 150).await.unwrap();
    publish_up_to(&log, 2_700).await;
    read(&mut reader, &mut behind, 9_999).await.unwrap();
    assert_eq!(behind, 2_700);
}

#[tokio::test]
async fn a_row_is_read_once_however_little_of_it_is_asked_for() {
    let (log, extent, _dir) = in_the_file().await;
    let mut reader = log.reader(ONE, &extent.incarnation, Offset::START).await.unwrap();
    let mut behind = 0;
    read(&mut reader, &mut behind, 10).await.unwrap();
    tamper(&log, "DELETE FROM parts").await;
    while behind < 1_000 {
        read(&mut reader, &mut behind, 10).await.unwrap();
    }
}

/// L4: held records may be yielded or not, but none is ever skipped.
#[tokio::test]
async fn a_reader_that_holds_a_part_of_a_row_notices_a_trim_or_another_life_behind_it() {
    for is_renewed in [false, true] {
        let (log, extent, _dir) = in_the_file().await;
        let mut reader = log.reader(ONE, &extent.incarnation, Offset::START).await.unwrap();
        let mut behind = 0;
        read(&mut reader, &mut behind, 10).await.unwrap();
        assert_eq!(log.trim(ONE, Offset::new(1_999), FAR_FUTURE).await.unwrap(), 1_000);
        read(&mut reader, &mut behind, 1_000).await.unwrap();
        assert_eq!(behind, 1_010, "what was trimmed was held, and the rest is still there");

        if is_renewed {
            log.renew(ONE, &extent.incarnation).await.unwrap();
            publish_up_to(&log, 3_000).await;
        } else {
            log.trim(ONE, Offset::new(2_500), FAR_FUTURE).await.unwrap();
        }
        let told = loop {
            match read(&mut reader, &mut behind, 300).await {
                Ok(()) => assert!(behind <= 2_000, "more is yielded than was held"),
                Err(ReadError::Moved(told)) => break told,
                Err(ReadError::Backend(failure)) => panic!("{failure}"),
            }
        };
        assert_eq!(told, log.extent(ONE).await.unwrap());
    }
}

/// Goal: if a clock was a year ahead for a while, the records of a year do not stay.
#[tokio::test]
async fn records_that_a_clock_far_ahead_has_dated_go_when_it_is_put_right() {
    const WINDOW: Duration = Duration::from_hours(1);
    let (dir, right) = (tempfile::tempdir().unwrap(), Timestamp::from_micros(1_700_000_000_000_000));
    let micros = Arc::new(AtomicI64::new(0));
    let set = |now: Timestamp| micros.store(now.as_micros(), Ordering::Relaxed);
    let clock = Clock::of({
        let micros = Arc::clone(&micros);
        move || Timestamp::from_micros(micros.load(Ordering::Relaxed))
    });
    let (folder, ids) = (DataFolder::open(dir.path()).unwrap(), Ids::new(Clock::system()));
    let log = EmbeddedLog::open(&folder, PartitionMap::new(2).unwrap(), clock, ids).await.unwrap();
    set(right.plus(WINDOW * 9_000));
    publish_up_to(&log, 3).await;
    set(right.plus(WINDOW / 2));
    publish_up_to(&log, 5).await;
    set(right);
    let trimmed = log.trim(ONE, Offset::new(5), right.minus(WINDOW)).await.unwrap();
    assert_eq!(trimmed, 3, "what is ahead by less than the window stays");
}

#[tokio::test]
async fn a_damaged_row_is_told_and_nothing_is_skipped() {
    let whole = "the records o1001 to o2000 cannot be read";
    for (damage, text) in [
        ("UPDATE parts SET body = x'5B7B22' WHERE place = (1 << 48) + 2000", whole),
        ("UPDATE parts SET body = CAST('[]' AS BLOB) WHERE place = (1 << 48) + 2000", whole),
        ("UPDATE parts SET count = 999 WHERE place = (1 << 48) + 2000", "the record after o1000 is missing"),
        ("DELETE FROM parts WHERE place = (1 << 48) + 2000", "the record after o1000 is missing"),
        ("DELETE FROM parts WHERE place = (1 << 48) + 2500", "the record after o2000 is missing"),
        ("UPDATE parts SET count = 9999 WHERE place = (1 << 48) + 2000", "the record after o1000 is missing"),
        ("UPDATE parts SET count = 0 WHERE place = (1 << 48) + 2000", "the record after o1000 is missing"),
    ] {
        let (log, extent, _dir) = in_the_file().await;
        tamper(&log, damage).await;
        let mut reader = log.reader(ONE, &extent.incarnation, Offset::START).await.unwrap();
        let mut behind = 0;
        let failure = loop {
            match read(&mut reader, &mut behind, 1_000).await {
                Ok(()) => {}
                Err(ReadError::Moved(told)) => panic!("{damage}: {told:?}"),
                Err(ReadError::Backend(failure)) => break failure,
            }
        };
        assert_eq!((failure.effect, failure.retry), (Effect::None, Retry::Never));
        let told = failure.to_string();
        assert!(told.contains(text) && told.contains("damaged") && told.contains("delete log.db"), "{told}");
    }
}
