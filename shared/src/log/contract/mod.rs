//! The contract of every partition log: one function per promise, each run on a fresh log.
//!
//! [`log_contract!`](crate::log_contract) turns them into the tests of a backend. Nothing here depends on wall time, so
//! a backend may also run them with paused time. The log under test has at least two partitions.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these functions are the bodies of tests")]

mod publish;
mod read;
mod trim;

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use super::{Extent, Incarnation, PartitionLog, PartitionReader, ReadError, Record};
use crate::clock::Timestamp;
use crate::coordinate::{Offset, Position, Version};
use crate::event::{EncodedEvents, Recorded};
use crate::id::AccountId;
use crate::partition::Partition;
use crate::store::FeedEntry;

pub use publish::*;
pub use read::*;
pub use trim::*;

/// The tests of a partition log. Takes an expression for a future that yields an empty log of at least two partitions
/// and something to keep for as long as the log is used, such as a temporary folder or `()`. A second argument such as
/// `(start_paused = true)` is passed to `#[tokio::test]`. A log that trims whole parts ([`PartitionLog::trim`]) is
/// marked `in_parts` and exempt from the laws of logs that trim single records.
///
/// ```text
/// log_contract!(empty_log());
/// log_contract!(in_parts: empty_log());
/// ```
#[macro_export]
macro_rules! log_contract {
    (@each $open:expr, $runtime:tt, $($law:ident),+ $(,)?) => {
        $(
            #[tokio::test $runtime]
            async fn $law() {
                let (fresh, _kept) = $open.await;
                let law = Box::pin($crate::log::contract::$law(fresh));
                tokio::time::timeout($crate::log::contract::PATIENCE, law).await.expect("it comes to an end");
            }
        )+
    };
    (in_parts: $open:expr) => {
        $crate::log_contract!(@every_log $open, (flavor = "current_thread"));
    };
    ($open:expr) => {
        $crate::log_contract!($open, (flavor = "current_thread"));
    };
    ($open:expr, $runtime:tt) => {
        $crate::log_contract!(@every_log $open, $runtime);
        $crate::log_contract!(@each $open, $runtime,
            trimming_forgets_each_record_for_itself,
            trimming_may_forget_the_last_record,
        );
    };
    (@every_log $open:expr, $runtime:tt) => {
        $crate::log_contract!(@each $open, $runtime,
            offsets_count_from_one_in_the_order_of_publishing,
            partitions_count_their_offsets_apart,
            a_write_is_read_as_it_was_published,
            a_batch_of_thousands_is_taken_whole,
            a_publish_behind_anything_but_the_end_writes_nothing,
            a_publish_into_another_life_writes_nothing,
            of_publishers_at_the_same_place_one_wins,
            a_reader_yields_every_record_behind_its_place_in_order,
            a_stream_appears_in_version_order,
            a_waiting_reader_yields_what_is_published_later,
            a_reader_with_nothing_to_read_says_that_it_is_alive,
            a_dropped_call_loses_no_record,
            readers_do_not_disturb_each_other,
            a_reader_behind_the_end_says_so,
            a_reader_of_another_life_says_so,
            trimming_forgets_what_is_both_below_and_old,
            trimming_forgets_nothing_of_a_batch_that_is_to_stay,
            trimming_never_goes_beyond_the_end,
            publishing_goes_on_behind_a_trimmed_end,
            a_reader_may_start_where_trimming_ended,
            a_reader_in_front_of_trimmed_records_says_so,
            an_open_reader_never_skips_what_was_trimmed,
            a_renewed_partition_is_empty_and_counts_from_one,
            a_partition_never_has_the_same_incarnation_twice,
            renewing_another_life_changes_nothing,
            renewing_a_partition_leaves_the_others_alone,
            an_open_reader_notices_a_renewal,
        );
    };
}

/// The longest a law may take: a test that waits in vain fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_mins(2);

const ONE: Partition = Partition::new(1);
const TWO: Partition = Partition::new(2);

/// After every time at which a test may publish.
const FAR_FUTURE: Timestamp = Timestamp::from_micros(i64::MAX / 2);

/// A write with one event of a stream.
fn entry(stream: u8, version: u64) -> FeedEntry {
    entry_of(stream, version, 1)
}

/// A write with some events of a stream.
fn entry_of(stream: u8, first_version: u64, events: u32) -> FeedEntry {
    let json = format!("[{}]", vec![format!("{{\"of\":{stream},\"at\":{first_version}}}"); events as usize].join(","));
    FeedEntry {
        position: Position::Number(first_version),
        recorded: Recorded {
            stream: AccountId::from_bytes([stream; 16]),
            first_version: Version::new(first_version),
            time: Timestamp::from_micros(1_700_000_000_000_000 + i64::from(stream)),
            events: EncodedEvents { count: events, json: Bytes::from(json) },
        },
    }
}

/// The versions `from ..= to` of a stream, one write each.
fn entries(stream: u8, from: u64, to: u64) -> Vec<FeedEntry> {
    (from..=to).map(|version| entry(stream, version)).collect()
}

/// These versions of a stream, each a write of the smallest event: for what a backend promises beside the contract.
#[must_use]
pub fn plain_entries(versions: RangeInclusive<u64>) -> Vec<FeedEntry> {
    let recorded = |version| Recorded {
        stream: AccountId::from_bytes([1; 16]),
        first_version: Version::new(version),
        time: Timestamp::EPOCH,
        events: EncodedEvents { count: 1, json: Bytes::from_static(b"[{}]") },
    };
    versions.map(|version| FeedEntry { position: Position::Number(version), recorded: recorded(version) }).collect()
}

/// The records of a log to which these writes were published after the offset `after`.
fn records(after: u64, entries: &[FeedEntry]) -> Vec<Record> {
    (after + 1..)
        .zip(entries)
        .map(|(offset, entry)| Record { offset: Offset::new(offset), recorded: entry.recorded.clone() })
        .collect()
}

async fn publish<L: PartitionLog>(log: &L, partition: Partition, batch: &[FeedEntry]) -> Extent {
    let extent = log.extent(partition).await.unwrap();
    let last = log.publish(partition, &extent.incarnation, extent.last, batch).await.unwrap();
    Extent { last, ..extent }
}

/// Publishes each write by itself, so that a log that stores parts can trim each one separately.
async fn publish_singly<L: PartitionLog>(log: &L, partition: Partition, writes: &[FeedEntry]) -> Extent {
    let mut extent = log.extent(partition).await.unwrap();
    for write in writes {
        extent = publish(log, partition, std::slice::from_ref(write)).await;
    }
    extent
}

async fn reader<L: PartitionLog>(log: &L, partition: Partition, after: u64) -> L::Reader {
    let life = log.extent(partition).await.unwrap().incarnation;
    log.reader(partition, &life, Offset::new(after)).await.unwrap()
}

/// Reads until `count` records are there.
async fn take<R: PartitionReader>(reader: &mut R, count: usize, limit: usize) -> Vec<Record> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = reader.next_batch(limit).await.unwrap();
        assert!(batch.len() <= limit, "a batch of {} records where {limit} were asked for", batch.len());
        taken.extend(batch);
    }
    taken
}

/// Reads until the reader reports that it cannot go on; also returns the records before that.
async fn take_until_moved<R: PartitionReader>(reader: &mut R, limit: usize) -> (Vec<Record>, Extent) {
    let mut taken = Vec::new();
    loop {
        match reader.next_batch(limit).await {
            Ok(batch) => taken.extend(batch),
            Err(ReadError::Moved(extent)) => return (taken, extent),
            Err(ReadError::Backend(error)) => panic!("{error}"),
        }
    }
}

/// Whether a reader after this offset learns that the partition does not continue there, on opening or on reading.
async fn is_told_that_it_moved<L: PartitionLog>(log: &L, partition: Partition, life: &Incarnation, after: u64) -> bool {
    match log.reader(partition, life, Offset::new(after)).await {
        Ok(mut reader) => matches!(reader.next_batch(10).await, Err(ReadError::Moved(_))),
        Err(ReadError::Moved(_)) => true,
        Err(ReadError::Backend(error)) => panic!("{error}"),
    }
}
