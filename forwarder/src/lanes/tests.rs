//! With a log whose partitions are in trouble, and a clock that jumps.

use super::*;

use shared::coordinate::Position;

use crate::fake_log::{FakeLog, ONE, TWO, Trouble, entry, partitions};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// When a silent log is given up. A look may have been answered just before it fell silent.
const AT_LEAST: Duration = Duration::from_secs(SILENT_AFTER.as_secs() - LOOK_EVERY.as_secs() - 1);
const AT_MOST: Duration = Duration::from_secs(SILENT_AFTER.as_secs() + 20);

fn lanes<'a>(log: &'a FakeLog, full: &'a FullPartitions) -> Lanes<'a, FakeLog> {
    let ends = partitions().all().map(|partition| (partition, log.extent_of(partition).into())).collect();
    Lanes::new(log, partitions(), full, Checkpoint { position: Position::Start, ends, newest: None })
}

/// A batch with a write for each partition.
fn batch(version: u64) -> FeedBatch {
    let entries = [ONE, TWO].map(|partition| entry(partition, version)).to_vec();
    FeedBatch { entries, reached: Position::Number(version) }
}

/// Goes on for this long, as if the feed yielded the next batch then.
async fn go_on<L: PartitionLog>(lanes: &mut Lanes<'_, L>, time: Duration) {
    lanes.publish_until(sleep(time)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_takes_nothing_holds_up_no_other_and_nothing_is_published_twice() {
    for trouble in [Trouble::Fails, Trouble::Silent, Trouble::Full, Trouble::Refuses] {
        let (log, full) = (FakeLog::default(), FullPartitions::default());
        let mut lanes = lanes(&log, &full);
        log.make(TWO, Some(trouble));
        for version in 1..=60 {
            lanes.take(batch(version));
            go_on(&mut lanes, SECOND).await;
            assert_eq!(log.versions(ONE), (1..=version).collect::<Vec<_>>(), "{trouble:?}");
        }
        assert_eq!(lanes.checkpoint().position, Position::Start, "{trouble:?}");
        log.make(TWO, None);
        go_on(&mut lanes, HOUR).await;
        for partition in [ONE, TWO] {
            assert_eq!(log.versions(partition), (1..=60).collect::<Vec<_>>(), "{trouble:?}, {partition}");
        }
        assert_eq!((lanes.checkpoint().position, lanes.held()), (Position::Number(60), 0), "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_fails_is_not_given_up_while_another_answers() {
    let (log, full) = (FakeLog::default(), FullPartitions::default());
    let mut lanes = lanes(&log, &full);
    log.make(TWO, Some(Trouble::Fails));
    lanes.take(batch(1));
    for _ in 0..200 {
        go_on(&mut lanes, LOOK_EVERY).await;
        assert_eq!(lanes.held(), 1);
        lanes.look();
    }
    assert_eq!(log.versions(ONE), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_log_of_which_no_partition_answers_is_given_up_and_the_position_stays() {
    for trouble in [Trouble::Fails, Trouble::Silent] {
        let (log, full) = (FakeLog::default(), FullPartitions::default());
        let mut lanes = lanes(&log, &full);
        lanes.take(batch(1));
        go_on(&mut lanes, SECOND).await;
        for partition in [ONE, TWO] {
            log.make(partition, Some(trouble));
        }
        lanes.take(batch(2));
        let began = Instant::now();
        assert_eq!(lanes.publish_until(sleep(HOUR)).await.unwrap_err().operation, "publish");
        assert!((AT_LEAST..AT_MOST).contains(&began.elapsed()), "{trouble:?}: {:?}", began.elapsed());
        assert_eq!(lanes.checkpoint().position, Position::Number(1));
    }
}

/// Of a bank in which nothing happens.
#[tokio::test(start_paused = true)]
async fn looks_at_quiet_partitions_find_losses() {
    let (log, full) = (FakeLog::default(), FullPartitions::default());
    let mut lanes = lanes(&log, &full);
    lanes.take(batch(1));
    go_on(&mut lanes, SECOND).await;
    log.lose_all(ONE);
    let before = [ONE, TWO].map(|partition| log.extent_of(partition).incarnation);
    lanes.look();
    go_on(&mut lanes, SECOND).await;
    let after = [ONE, TWO].map(|partition| log.extent_of(partition).incarnation);
    assert_ne!(after[0], before[0], "a partition that lost a record is renewed");
    assert_eq!(after[1], before[1]);
    assert_eq!(lanes.checkpoint().ends[&ONE], End::from(log.extent_of(ONE)));
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_partition_that_is_being_looked_at_is_published_once_afterwards() {
    for trouble in [None, Some(Trouble::Silent)] {
        let (log, full) = (FakeLog::default(), FullPartitions::default());
        let mut lanes = lanes(&log, &full);
        log.make(TWO, trouble);
        lanes.look();
        lanes.take(batch(1));
        go_on(&mut lanes, SECOND).await;
        assert_eq!((log.versions(ONE).len(), log.versions(TWO).is_empty()), (1, trouble.is_some()));
        log.make(TWO, None);
        lanes.look();
        go_on(&mut lanes, HOUR).await;
        assert_eq!((log.versions(TWO), log.publishes()), (vec![1], 2), "{trouble:?}");
        assert_eq!((lanes.checkpoint().position, lanes.held()), (Position::Number(1), 0), "{trouble:?}");
    }
}

/// The partitions of a bank in which nothing happens fall silent one after the other.
#[tokio::test(start_paused = true)]
async fn an_idle_log_that_does_not_answer_is_given_up_once_it_is_silent_as_a_whole() {
    for trouble in [Trouble::Fails, Trouble::Silent] {
        let (log, full) = (FakeLog::default(), FullPartitions::default());
        let mut lanes = lanes(&log, &full);
        log.make(TWO, Some(trouble));
        for _ in 0..200 {
            lanes.look();
            go_on(&mut lanes, LOOK_EVERY).await;
        }
        log.make(ONE, Some(trouble));
        let began = Instant::now();
        let given_up = async {
            loop {
                lanes.look();
                if lanes.publish_until(sleep(LOOK_EVERY)).await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(AT_MOST, given_up).await.unwrap();
        assert!(began.elapsed() >= AT_LEAST, "{trouble:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_position_follows_a_slow_partition_that_always_has_something_to_take() {
    let (log, full) = (FakeLog::default(), FullPartitions::default());
    let mut lanes = lanes(&log, &full);
    log.make(TWO, Some(Trouble::Slow(3 * SECOND)));
    for version in 1..=60 {
        lanes.take(batch(version));
        go_on(&mut lanes, SECOND).await;
        let position = lanes.checkpoint().position;
        let taken = log.versions(TWO).len() as u64;
        assert_eq!(position, if taken == 0 { Position::Start } else { Position::Number(taken) });
        assert!(lanes.held() > 0);
    }
    assert!(log.versions(TWO).len() > 50, "{:?}", log.versions(TWO));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_held_than_fits_and_a_late_partition_gets_it_a_batch_at_a_time() {
    let (log, full) = (FakeLog::default(), FullPartitions::default());
    let mut lanes = lanes(&log, &full);
    log.make(TWO, Some(Trouble::Fails));
    let mut version = 0;
    while lanes.has_room() {
        let entries = (0..FEED_BATCH_MAX as u64).map(|number| entry(TWO, version + number + 1)).collect();
        version += FEED_BATCH_MAX as u64;
        lanes.take(FeedBatch { entries, reached: Position::Number(version) });
        go_on(&mut lanes, SECOND).await;
    }
    assert_eq!(lanes.held(), HELD_MAX);
    log.make(TWO, None);
    go_on(&mut lanes, HOUR).await;
    assert!(lanes.has_room());
    assert_eq!((log.versions(TWO), log.longest_publish()), ((1..=version).collect::<Vec<_>>(), FEED_BATCH_MAX));
    assert_eq!(lanes.checkpoint().position, Position::Number(version));
}
