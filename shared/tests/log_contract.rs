//! The embedded log keeps the laws of the log, and some promises of its own.

use std::path::Path;

use shared::clock::{Clock, Timestamp};
use shared::coordinate::Offset;
use shared::id::Ids;
use shared::log::contract::{self, plain_entries};
use shared::log::{EmbeddedLog, Extent, LogOpenError, PartitionLog, PartitionReader, ReadError};
use shared::partition::{Partition, PartitionMap};
use shared::sqlite::DataFolder;
use tempfile::TempDir;

const ONE: Partition = Partition::new(1);
const TWO: Partition = Partition::new(2);

async fn empty_log() -> (EmbeddedLog, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    (opened(dir.path(), 2).await.expect("a new log"), dir)
}

async fn opened(path: &Path, partitions: u16) -> Result<EmbeddedLog, LogOpenError> {
    let folder = DataFolder::open(path).expect("a folder nobody else uses");
    let map = PartitionMap::new(partitions).expect("a number of partitions that a bank can have");
    EmbeddedLog::open(&folder, map, Clock::system(), Ids::new(Clock::system())).await
}

shared::log_contract!(in_parts: empty_log());

/// The end of a partition is not stored in its last row.
#[tokio::test]
async fn trimming_may_forget_the_last_record() {
    let (log, _dir) = empty_log().await;
    contract::trimming_may_forget_the_last_record(log).await;
}

async fn publish(log: &EmbeddedLog, partition: Partition, count: u64) -> Extent {
    let extent = log.extent(partition).await.expect("the extent");
    let batch = plain_entries(1..=count);
    log.publish(partition, &extent.incarnation, extent.last, &batch).await.expect("a publish at the end");
    log.extent(partition).await.expect("the extent")
}

#[tokio::test]
async fn lives_offsets_and_records_survive_when_the_log_is_opened_again() {
    let (log, dir) = empty_log().await;
    publish(&log, ONE, 4).await;
    publish(&log, ONE, 5).await;
    log.trim(ONE, Offset::new(4), Timestamp::from_micros(i64::MAX)).await.unwrap();
    let before = [log.extent(ONE).await.unwrap(), publish(&log, TWO, 3).await];
    drop(log);

    let log = opened(dir.path(), 2).await.unwrap();
    assert_eq!([log.extent(ONE).await.unwrap(), log.extent(TWO).await.unwrap()], before);
    let mut reader = log.reader(ONE, &before[0].incarnation, Offset::new(4)).await.unwrap();
    let offsets: Vec<u64> = reader.next_batch(100).await.unwrap().iter().map(|record| record.offset.get()).collect();
    assert_eq!(offsets, [5, 6, 7, 8, 9]);
    assert_eq!(publish(&log, ONE, 1).await.last, Offset::new(10));
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_with_the_way_out_and_changes_nothing() {
    let (log, dir) = empty_log().await;
    let before = publish(&log, ONE, 3).await;
    drop(log);
    let refusal = opened(dir.path(), 3).await.unwrap_err();
    assert!(matches!(refusal, LogOpenError::Partitions { stored: 2, asked: 3, .. }));
    let text = refusal.to_string();
    assert!(text.contains("log.db") && text.contains("set --partitions 2") && text.contains("delete"), "{text}");
    assert_eq!(opened(dir.path(), 2).await.unwrap().extent(ONE).await.unwrap(), before);
}

/// What was not fsynced may be lost with the machine, so offsets may later name other records.
#[tokio::test]
async fn a_log_from_before_a_restart_of_the_machine_begins_another_life() {
    let (log, dir) = empty_log().await;
    let before = publish(&log, ONE, 3).await;
    drop(log);
    let file = rusqlite::Connection::open(dir.path().join("log.db")).unwrap();
    assert_eq!(file.execute("UPDATE log SET machine_start = 'an earlier one'", []).unwrap(), 1);
    drop(file);

    let log = opened(dir.path(), 2).await.unwrap();
    let after = log.extent(ONE).await.unwrap();
    assert_ne!(after.incarnation, before.incarnation);
    assert_eq!((after.trimmed, after.last), (Offset::START, Offset::START));
    let refused = log.reader(ONE, &before.incarnation, before.last).await;
    assert!(matches!(refused, Err(ReadError::Moved(extent)) if extent == after));
    assert_eq!(publish(&log, ONE, 2).await.last, Offset::new(2));
    let next = log.extent(ONE).await.unwrap();
    drop(log);
    assert_eq!(opened(dir.path(), 2).await.unwrap().extent(ONE).await.unwrap(), next, "and only once");
}

#[tokio::test]
async fn a_partition_the_log_does_not_have_is_refused() {
    let (log, _dir) = empty_log().await;
    for number in [0, 3] {
        assert!(log.extent(Partition::new(number)).await.is_err());
    }
}

#[tokio::test]
async fn a_trim_of_many_records_forgets_all_of_them() {
    let (log, _dir) = empty_log().await;
    publish(&log, ONE, 12_000).await;
    let forgotten = log.trim(ONE, Offset::new(11_999), Timestamp::from_micros(i64::MAX)).await.unwrap();
    assert_eq!(forgotten, 11_000, "the row with the last record stays whole");
    assert_eq!(log.extent(ONE).await.unwrap().trimmed, Offset::new(11_000));
}

/// Rows whose sizes do not add up to the number deleted in one transaction.
#[tokio::test]
async fn a_trim_of_many_rows_forgets_all_of_them() {
    let (log, _dir) = empty_log().await;
    for _ in 0..16 {
        publish(&log, ONE, 700).await;
    }
    assert_eq!(log.trim(ONE, Offset::new(11_200), Timestamp::from_micros(i64::MAX)).await.unwrap(), 11_200);
}
