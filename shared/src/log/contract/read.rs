//! Laws L2 and L4: what a reader yields, and when it says that it cannot.

use futures::future::{Either, join, select};

use super::{ONE, TWO, entries, entry, is_told_that_it_moved, publish, reader, records, take};
use crate::coordinate::Version;
use crate::log::{Incarnation, PartitionLog, PartitionReader};

/// L4
pub async fn a_reader_yields_every_record_behind_its_place_in_order<L: PartitionLog>(log: L) {
    let all = entries(1, 1, 10);
    publish(&log, ONE, &all[..4]).await;
    publish(&log, ONE, &all[4..]).await;
    for after in 0..10_u8 {
        for limit in [1, 2, 3, 10, 100] {
            let rest = &all[usize::from(after)..];
            let mut reader = reader(&log, ONE, u64::from(after)).await;
            assert_eq!(take(&mut reader, rest.len(), limit).await, records(u64::from(after), rest));
        }
    }
}

/// L2
pub async fn a_stream_appears_in_version_order<L: PartitionLog>(log: L) {
    for version in 1..=20 {
        publish(&log, ONE, &[entry(1, version), entry(2, version)]).await;
        publish(&log, TWO, &[entry(3, version)]).await;
    }
    let read = take(&mut reader(&log, ONE, 0).await, 40, 7).await;
    for stream in [1, 2] {
        let of_stream = read.iter().filter(|record| record.recorded.stream == entry(stream, 1).recorded.stream);
        let versions: Vec<Version> = of_stream.map(|record| record.recorded.first_version).collect();
        assert_eq!(versions, (1..=20).map(Version::new).collect::<Vec<_>>());
    }
}

/// L4
pub async fn a_waiting_reader_yields_what_is_published_later<L: PartitionLog>(log: L) {
    let mut reader = reader(&log, ONE, 0).await;
    let reads = take(&mut reader, 20, 3);
    let publishes = async {
        for version in 1..=20 {
            publish(&log, TWO, &[entry(2, version)]).await;
            publish(&log, ONE, &[entry(1, version)]).await;
        }
    };
    assert_eq!(join(reads, publishes).await.0, records(0, &entries(1, 1, 20)));
}

/// [`PartitionReader::next_batch`] does not wait for ever.
pub async fn a_reader_with_nothing_to_read_says_that_it_is_alive<L: PartitionLog>(log: L) {
    publish(&log, ONE, &entries(1, 1, 2)).await;
    let mut reader = reader(&log, ONE, 2).await;
    for _ in 0..2 {
        assert_eq!(reader.next_batch(10).await.unwrap(), []);
    }
    publish(&log, ONE, &entries(1, 3, 3)).await;
    assert_eq!(take(&mut reader, 1, 10).await, records(2, &entries(1, 3, 3)));
}

/// [`PartitionReader::next_batch`] is cancel safe: records under way in a dropped call come with the next one.
pub async fn a_dropped_call_loses_no_record<L: PartitionLog>(log: L) {
    let mut reader = reader(&log, ONE, 0).await;
    let mut read = Vec::new();
    for version in 1..=50 {
        let batch = [entry(1, version)];
        // Whichever ends first; the reader's call is dropped half way if it is the slower one.
        let raced = select(Box::pin(reader.next_batch(10)), Box::pin(publish(&log, ONE, &batch))).await;
        match raced {
            Either::Left((yielded, publishing)) => {
                publishing.await;
                read.extend(yielded.unwrap());
            }
            Either::Right((_, _dropped)) => {}
        }
    }
    let rest = take(&mut reader, 50 - read.len(), 10).await;
    read.extend(rest);
    assert_eq!(read, records(0, &entries(1, 1, 50)));
}

/// L4
pub async fn readers_do_not_disturb_each_other<L: PartitionLog>(log: L) {
    publish(&log, ONE, &entries(1, 1, 10)).await;
    let mut first = reader(&log, ONE, 0).await;
    let mut second = reader(&log, ONE, 5).await;
    assert_eq!(take(&mut first, 3, 3).await, records(0, &entries(1, 1, 3)));
    assert_eq!(take(&mut second, 5, 2).await, records(5, &entries(1, 6, 10)));
    assert_eq!(take(&mut first, 7, 10).await, records(3, &entries(1, 4, 10)));
}

/// L4: an offset beyond the end of the partition means that the partition lost its end.
pub async fn a_reader_behind_the_end_says_so<L: PartitionLog>(log: L) {
    let extent = publish(&log, ONE, &entries(1, 1, 3)).await;
    for after in [4, 1_000] {
        assert!(is_told_that_it_moved(&log, ONE, &extent.incarnation, after).await);
    }
}

/// L4
pub async fn a_reader_of_another_life_says_so<L: PartitionLog>(log: L) {
    publish(&log, ONE, &entries(1, 1, 3)).await;
    let other_life = Incarnation("a life this partition never had".into());
    for after in [0, 3] {
        assert!(is_told_that_it_moved(&log, ONE, &other_life, after).await);
    }
}
