//! Trimming and law L5: what a partition removes.

use super::{
    FAR_FUTURE, ONE, TWO, entries, is_told_that_it_moved, publish, publish_singly, reader, records, take,
    take_until_moved,
};
use crate::clock::Timestamp;
use crate::coordinate::Offset;
use crate::log::{Extent, Incarnation, PartitionLog, PartitionReader, ReadError};

/// [`PartitionLog::trim`] removes a record only if it is both below and old.
pub async fn trimming_forgets_what_is_both_below_and_old<L: PartitionLog>(log: L) {
    let extent = publish_singly(&log, ONE, &entries(1, 1, 10)).await;
    assert_eq!(log.trim(ONE, Offset::new(10), Timestamp::EPOCH).await.unwrap(), 0);
    assert_eq!(log.extent(ONE).await.unwrap(), extent);

    assert_eq!(log.trim(ONE, Offset::new(4), FAR_FUTURE).await.unwrap(), 4);
    assert_eq!(log.extent(ONE).await.unwrap(), Extent { trimmed: Offset::new(4), ..extent });
    assert_eq!(log.trim(ONE, Offset::new(4), FAR_FUTURE).await.unwrap(), 0);
    assert_eq!(log.trim(ONE, Offset::new(6), FAR_FUTURE).await.unwrap(), 2);
}

/// [`PartitionLog::trim`]: a whole batch may stay because one of its records must, and all that is held can be read.
pub async fn trimming_forgets_nothing_of_a_batch_that_is_to_stay<L: PartitionLog>(log: L) {
    let all = entries(1, 1, 30);
    for batch in all.chunks(10) {
        publish(&log, ONE, batch).await;
    }
    let life = log.extent(ONE).await.unwrap().incarnation;
    let forgotten = log.trim(ONE, Offset::new(14), FAR_FUTURE).await.unwrap();
    let extent = log.extent(ONE).await.unwrap();
    assert_eq!((extent.trimmed, extent.last), (Offset::new(forgotten), Offset::new(30)));
    assert!((10..=14).contains(&forgotten), "{forgotten} records were forgotten");
    for after in 0..forgotten {
        assert!(is_told_that_it_moved(&log, ONE, &life, after).await);
    }
    for after in forgotten..30 {
        let rest = records(0, &all).split_off(usize::try_from(after).unwrap());
        assert_eq!(take(&mut reader(&log, ONE, after).await, rest.len(), 7).await, rest);
    }
}

/// [`PartitionLog::trim`]
pub async fn trimming_never_goes_beyond_the_end<L: PartitionLog>(log: L) {
    publish(&log, TWO, &entries(2, 1, 2)).await;
    let extent = publish_singly(&log, ONE, &entries(1, 1, 3)).await;
    let forgotten = log.trim(ONE, Offset::new(1_000), FAR_FUTURE).await.unwrap();
    assert!((2..=3).contains(&forgotten), "{forgotten} records were forgotten");
    assert_eq!(log.extent(ONE).await.unwrap(), Extent { trimmed: Offset::new(forgotten), ..extent });
    assert_eq!(log.extent(TWO).await.unwrap().trimmed, Offset::START, "the other partition keeps its records");
}

/// [`PartitionLog::trim`], of a log that does not keep records in parts.
pub async fn trimming_forgets_each_record_for_itself<L: PartitionLog>(log: L) {
    let extent = publish(&log, ONE, &entries(1, 1, 10)).await;
    assert_eq!(log.trim(ONE, Offset::new(4), FAR_FUTURE).await.unwrap(), 4);
    assert_eq!(log.extent(ONE).await.unwrap(), Extent { trimmed: Offset::new(4), ..extent });
    assert_eq!(log.trim(ONE, Offset::new(6), FAR_FUTURE).await.unwrap(), 2);
}

/// [`PartitionLog::trim`], of a log that can tell its end without the last record.
pub async fn trimming_may_forget_the_last_record<L: PartitionLog>(log: L) {
    let extent = publish(&log, ONE, &entries(1, 1, 3)).await;
    assert_eq!(log.trim(ONE, Offset::new(1_000), FAR_FUTURE).await.unwrap(), 3);
    assert_eq!(log.extent(ONE).await.unwrap(), Extent { trimmed: Offset::new(3), ..extent.clone() });
    assert!(is_told_that_it_moved(&log, ONE, &extent.incarnation, 2).await);
}

/// L1
pub async fn publishing_goes_on_behind_a_trimmed_end<L: PartitionLog>(log: L) {
    publish(&log, ONE, &entries(1, 1, 3)).await;
    log.trim(ONE, Offset::new(3), FAR_FUTURE).await.unwrap();
    assert_eq!(publish(&log, ONE, &entries(1, 4, 5)).await.last, Offset::new(5));
    assert_eq!(take(&mut reader(&log, ONE, 3).await, 2, 10).await, records(3, &entries(1, 4, 5)));
}

/// L4
pub async fn a_reader_may_start_where_trimming_ended<L: PartitionLog>(log: L) {
    publish_singly(&log, ONE, &entries(1, 1, 5)).await;
    assert_eq!(log.trim(ONE, Offset::new(3), FAR_FUTURE).await.unwrap(), 3);
    assert_eq!(take(&mut reader(&log, ONE, 3).await, 2, 10).await, records(3, &entries(1, 4, 5)));
}

/// L4
pub async fn a_reader_in_front_of_trimmed_records_says_so<L: PartitionLog>(log: L) {
    let extent = publish_singly(&log, ONE, &entries(1, 1, 6)).await;
    log.trim(ONE, Offset::new(3), FAR_FUTURE).await.unwrap();
    for after in [0, 2] {
        assert!(is_told_that_it_moved(&log, ONE, &extent.incarnation, after).await);
    }
    log.trim(ONE, Offset::new(5), FAR_FUTURE).await.unwrap();
    assert!(is_told_that_it_moved(&log, ONE, &extent.incarnation, 4).await);
}

/// L4: it may yield trimmed records that it fetched before, and still skips none.
pub async fn an_open_reader_never_skips_what_was_trimmed<L: PartitionLog>(log: L) {
    let all = entries(1, 1, 20);
    publish_singly(&log, ONE, &all).await;
    let mut reader = reader(&log, ONE, 0).await;
    let mut read = take(&mut reader, 3, 3).await;
    log.trim(ONE, Offset::new(15), FAR_FUTURE).await.unwrap();
    while read.len() < all.len() {
        match reader.next_batch(2).await {
            Ok(batch) => read.extend(batch),
            Err(ReadError::Moved(extent)) => {
                assert_eq!(extent.trimmed, Offset::new(15));
                break;
            }
            Err(ReadError::Backend(error)) => panic!("{error}"),
        }
    }
    assert_eq!(read, records(0, &all[..read.len()]));
}

/// L5
pub async fn a_renewed_partition_is_empty_and_counts_from_one<L: PartitionLog>(log: L) {
    let before = publish(&log, ONE, &entries(1, 1, 3)).await;
    log.trim(ONE, Offset::new(1), FAR_FUTURE).await.unwrap();
    let renewed = log.renew(ONE, &before.incarnation).await.unwrap();
    assert_ne!(renewed.incarnation, before.incarnation);
    assert_eq!((renewed.trimmed, renewed.last), (Offset::START, Offset::START));
    assert_eq!(log.extent(ONE).await.unwrap(), renewed);

    assert_eq!(publish(&log, ONE, &entries(2, 1, 2)).await.last, Offset::new(2));
    assert_eq!(take(&mut reader(&log, ONE, 0).await, 2, 10).await, records(0, &entries(2, 1, 2)));
}

/// L5
pub async fn a_partition_never_has_the_same_incarnation_twice<L: PartitionLog>(log: L) {
    let mut lives = vec![log.extent(ONE).await.unwrap().incarnation];
    for _ in 0..10 {
        let renewed = log.renew(ONE, lives.last().unwrap()).await.unwrap();
        assert!(!lives.contains(&renewed.incarnation));
        lives.push(renewed.incarnation);
    }
}

/// [`PartitionLog::renew`]: if two callers notice the same loss, the second empties nothing.
pub async fn renewing_another_life_changes_nothing<L: PartitionLog>(log: L) {
    let first = publish(&log, ONE, &entries(1, 1, 3)).await;
    log.renew(ONE, &first.incarnation).await.unwrap();
    let extent = publish(&log, ONE, &entries(1, 1, 2)).await;
    for other in [first.incarnation, Incarnation("a life this partition never had".into())] {
        assert_eq!(log.renew(ONE, &other).await.unwrap(), extent);
    }
    assert_eq!(take(&mut reader(&log, ONE, 0).await, 2, 10).await, records(0, &entries(1, 1, 2)));
}

/// L5
pub async fn renewing_a_partition_leaves_the_others_alone<L: PartitionLog>(log: L) {
    let first = publish(&log, ONE, &entries(1, 1, 3)).await;
    let second = publish(&log, TWO, &entries(2, 1, 3)).await;
    log.renew(ONE, &first.incarnation).await.unwrap();
    assert_eq!(log.extent(TWO).await.unwrap(), second);
    assert_eq!(take(&mut reader(&log, TWO, 0).await, 3, 10).await, records(0, &entries(2, 1, 3)));
}

/// L4 and L5: even if the new incarnation has grown past the reader's offset.
pub async fn an_open_reader_notices_a_renewal<L: PartitionLog>(log: L) {
    let old = entries(1, 1, 3);
    let before = publish(&log, ONE, &old).await;
    let mut idle = reader(&log, ONE, 3).await;
    let mut behind = reader(&log, ONE, 0).await;
    let renewed = log.renew(ONE, &before.incarnation).await.unwrap();
    publish(&log, ONE, &entries(2, 1, 10)).await;

    let (read, extent) = take_until_moved(&mut idle, 2).await;
    assert_eq!((read, extent.incarnation), (vec![], renewed.incarnation.clone()));
    let (read, extent) = take_until_moved(&mut behind, 2).await;
    assert_eq!(read, records(0, &old[..read.len()]), "nothing of the other life");
    assert_eq!(extent.incarnation, renewed.incarnation);
}
