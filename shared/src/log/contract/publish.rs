//! Laws L1 and L3: offsets, and when a publish writes nothing.

use futures::future::join_all;

use super::{ONE, TWO, entries, entry, entry_of, publish, reader, records, take};
use crate::coordinate::Offset;
use crate::log::{Incarnation, PartitionLog, PublishError};

/// L1
pub async fn offsets_count_from_one_in_the_order_of_publishing<L: PartitionLog>(log: L) {
    let fresh = log.extent(ONE).await.unwrap();
    assert_eq!((fresh.trimmed, fresh.last), (Offset::START, Offset::START));

    assert_eq!(publish(&log, ONE, &entries(1, 1, 3)).await.last, Offset::new(3));
    assert_eq!(publish(&log, ONE, &entries(1, 4, 5)).await.last, Offset::new(5));
    assert_eq!(log.extent(ONE).await.unwrap(), crate::log::Extent { last: Offset::new(5), ..fresh });
    assert_eq!(take(&mut reader(&log, ONE, 0).await, 5, 100).await, records(0, &entries(1, 1, 5)));
}

/// L1
pub async fn partitions_count_their_offsets_apart<L: PartitionLog>(log: L) {
    publish(&log, ONE, &entries(1, 1, 3)).await;
    publish(&log, TWO, &entries(2, 1, 1)).await;
    assert_eq!(log.extent(ONE).await.unwrap().last, Offset::new(3));
    assert_eq!(log.extent(TWO).await.unwrap().last, Offset::new(1));
    assert_eq!(take(&mut reader(&log, TWO, 0).await, 1, 100).await, records(0, &entries(2, 1, 1)));
}

/// L1
pub async fn a_write_is_read_as_it_was_published<L: PartitionLog>(log: L) {
    let batch = [entry_of(7, 41, 3), entry_of(9, 1, 1)];
    publish(&log, ONE, &batch).await;
    assert_eq!(take(&mut reader(&log, ONE, 0).await, 2, 100).await, records(0, &batch));
}

/// L1
pub async fn a_batch_of_thousands_is_taken_whole<L: PartitionLog>(log: L) {
    let batch = entries(1, 1, 3_000);
    assert_eq!(publish(&log, ONE, &batch).await.last, Offset::new(3_000));
    assert_eq!(take(&mut reader(&log, ONE, 0).await, 3_000, 700).await, records(0, &batch));
}

/// L3
pub async fn a_publish_behind_anything_but_the_end_writes_nothing<L: PartitionLog>(log: L) {
    let extent = publish(&log, ONE, &entries(1, 1, 3)).await;
    for wrong in [0, 2, 4, 1_000] {
        let refused = log.publish(ONE, &extent.incarnation, Offset::new(wrong), &entries(2, 1, 2)).await;
        let Err(PublishError::Conflict(current)) = refused else { panic!("after {wrong}: {refused:?}") };
        assert_eq!(current, extent);
    }
    assert_eq!(log.extent(ONE).await.unwrap(), extent);
    assert_eq!(take(&mut reader(&log, ONE, 0).await, 3, 100).await, records(0, &entries(1, 1, 3)));
}

/// L3
pub async fn a_publish_into_another_life_writes_nothing<L: PartitionLog>(log: L) {
    let extent = publish(&log, ONE, &entries(1, 1, 3)).await;
    let other_life = Incarnation("a life this partition never had".into());
    let refused = log.publish(ONE, &other_life, extent.last, &entries(1, 4, 4)).await;
    assert!(matches!(refused, Err(PublishError::Conflict(current)) if current == extent));

    let renewed = log.renew(ONE, &extent.incarnation).await.unwrap();
    for after in [extent.last, Offset::START] {
        let refused = log.publish(ONE, &extent.incarnation, after, &entries(1, 4, 4)).await;
        assert!(matches!(refused, Err(PublishError::Conflict(current)) if current == renewed));
    }
    assert_eq!(log.extent(ONE).await.unwrap(), renewed);
}

/// L3
pub async fn of_publishers_at_the_same_place_one_wins<L: PartitionLog>(log: L) {
    let extent = publish(&log, ONE, &entries(1, 1, 1)).await;
    let contenders: Vec<_> = (2..10).map(|stream| [entry(stream, 1), entry(stream, 2)]).collect();
    let fates =
        join_all(contenders.iter().map(|batch| log.publish(ONE, &extent.incarnation, extent.last, batch))).await;

    let winners: Vec<usize> = (0..fates.len()).filter(|&index| fates[index].is_ok()).collect();
    let [winner] = winners[..] else { panic!("{} publishers won", winners.len()) };
    assert!(fates.iter().all(|fate| matches!(fate, Ok(_) | Err(PublishError::Conflict(_)))));
    assert_eq!(log.extent(ONE).await.unwrap().last, Offset::new(3));
    assert_eq!(take(&mut reader(&log, ONE, 1).await, 2, 100).await, records(1, &contenders[winner]));
}
