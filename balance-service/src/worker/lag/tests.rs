use shared::coordinate::Epoch;
use shared::index::{BalanceIndex, Projected, Seal};
use shared::log::contract::plain_entries;
use shared::partition::PartitionMap;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::right_of_way::RightOfWay;
use crate::testing::{Embedded, embedded};
use crate::visibility::Visibility;
use crate::worker::Worker;

/// How long it may take until something is known of a worker that has begun.
const KNOWN_WITHIN: Duration = Duration::from_mins(1);

const PARTITION: Partition = Partition::new(1);

fn life(name: &str) -> Incarnation {
    Incarnation(name.into())
}

fn extent(name: &str, trimmed: u64, last: u64) -> Extent {
    Extent { incarnation: life(name), trimmed: Offset::new(trimmed), last: Offset::new(last) }
}

const fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn noted(offset: u64, phase: Phase) -> Checkpoint {
    let (epoch, incarnation) = (Epoch::new(1), life("a"));
    Checkpoint { partition: PARTITION, epoch, incarnation, offset: Offset::new(offset), phase }
}

/// What a worker has not written, as it is found at this second.
fn found(lag: &Lag, extent: &Extent, second: i64) -> Option<Behind> {
    lag.place().as_mut().map(|reached| reached.behind(extent, at(second)))
}

#[test]
fn what_is_behind_is_counted_within_one_life_of_the_log() {
    let lag = Lag::default();
    assert_eq!(found(&lag, &extent("a", 40, 100), 9), None, "nothing is known before the checkpoint is read");
    lag.reached(&life("a"), Offset::new(70), Some(at(5)));
    assert_eq!(found(&lag, &extent("a", 40, 100), 9), Some(Behind { records: 30, age: seconds(4) }));
    let other = Some(Behind { records: 60, age: seconds(4) });
    assert_eq!(found(&lag, &extent("b", 40, 100), 9), other, "of another life everything is missing");
    lag.reached(&life("a"), Offset::new(100), None);
    assert_eq!(found(&lag, &extent("a", 40, 100), 9), Some(Behind::default()));
}

#[test]
fn a_worker_that_begins_is_behind_by_what_follows_its_checkpoint() {
    let held = extent("a", 40, 100);
    let replaying = Phase::Replaying { after: None, done: 4 };
    for (noted, records) in
        [(Some(noted(70, Phase::Live { replayed: 3 })), 30), (Some(noted(70, replaying)), 60), (None, 60)]
    {
        let lag = Lag::default();
        lag.begins(noted.as_ref(), &held);
        assert_eq!(found(&lag, &held, 1), Some(Behind { records, age: seconds(0) }), "{noted:?}");
        // It fails, and begins again.
        lag.begins(noted.as_ref(), &held);
        assert_eq!(found(&lag, &held, 31), Some(Behind { records, age: seconds(30) }), "{noted:?}");
    }
}

#[test]
fn a_worker_that_must_synchronise_is_behind_even_if_the_log_is_empty() {
    let (lag, renewed) = (Lag::default(), extent("b", 0, 0));
    lag.begins(Some(&noted(70, Phase::Live { replayed: 3 })), &renewed);
    for second in [1, 31] {
        let age = at(1).until(at(second));
        assert_eq!(found(&lag, &renewed, second), Some(Behind { records: 0, age }));
    }
    lag.reached(&life("b"), Offset::START, None);
    assert_eq!(found(&lag, &renewed, 61), Some(Behind::default()));
}

/// Goal: an event in flight after an hour without any does not look an hour old.
#[test]
fn the_age_is_that_of_the_oldest_record_that_waits() {
    let lag = Lag::default();
    let age = |last, second| found(&lag, &extent("a", 0, last), second).unwrap().age;
    let reached = |offset, second| lag.reached(&life("a"), Offset::new(offset), Some(at(second)));
    reached(1, 0);
    assert_eq!(age(1, 3_600), seconds(0), "everything is written");
    assert_eq!(age(2, 3_700), seconds(0), "the next one was not there a moment ago");
    assert_eq!(age(2, 3_730), seconds(30));
    lag.read(at(3_690));
    assert_eq!(age(2, 3_730), seconds(40), "the worker has read when it was made");
    reached(2, 3_690);
    assert_eq!(age(3, 3_735), seconds(45), "the one after it may be as old");
    reached(3, 3_734);
    assert_eq!(age(4, 3_740), seconds(6), "a worker that is always behind is as late as what it wrote last");
    reached(4, 3_739);
    assert_eq!(age(4, 3_740), seconds(0));
}

#[test]
fn a_lag_moves_with_the_role_and_ends_with_the_worker() {
    let lags = Lags::default();
    let (old, new) = (lags.of(Generation(1)), lags.of(Generation(2)));
    let records = |role_of: fn(Generation) -> Option<Role>| {
        let lags = lags.by_role(&extent("a", 0, 100), at(9), role_of);
        Role::ALL.map(|role| lags.get(&role).map(|lag| lag.records))
    };
    let building =
        |generation: Generation| Some(if generation == Generation(1) { Role::Active } else { Role::Building });
    let switched =
        |generation: Generation| Some(if generation == Generation(2) { Role::Active } else { Role::Standby });
    assert_eq!(records(building), [None; 3], "nothing is known before the checkpoints are read");
    old.reached(&life("a"), Offset::new(99), None);
    new.reached(&life("a"), Offset::new(60), None);
    assert_eq!(records(building), [Some(1), Some(40), None]);
    assert_eq!(records(switched), [Some(40), None, Some(1)]);
    assert_eq!(records(|_| Some(Role::Standby)), [None, None, Some(40)], "the largest counts");
    assert_eq!(records(|_| None), [None; 3], "nothing waits for a generation that is not fed");
    drop(old);
    assert_eq!(records(switched), [Some(40), None, None]);
}

/// A bank whose log holds three records behind the checkpoint of its only generation, which takes no more writes.
async fn blocked() -> (Embedded, PartitionMap, Generation, TempDir) {
    let partitions = PartitionMap::new(1).unwrap();
    let (backends, folder) = embedded(partitions).await;
    let generation = backends.index.create().await.unwrap();
    let Extent { incarnation, last, .. } = backends.log.extent(PARTITION).await.unwrap();
    backends.log.publish(PARTITION, &incarnation, last, &plain_entries(1..=3)).await.unwrap();
    let checkpoint = Checkpoint { incarnation, ..noted(last.get(), Phase::Live { replayed: 0 }) };
    let projected = Projected { checkpoint: Some(checkpoint), ..Projected::default() };
    backends.index.apply(generation, &projected).await.unwrap();
    backends.index.seal(generation, Seal(Uuid::nil())).await.unwrap();
    (backends, partitions, generation, folder)
}

/// Goal: an alarm that was raised before a balance service was started again does not clear while nothing moves. The
/// first thing that a worker writes under its new epoch is its checkpoint.
#[tokio::test]
async fn a_worker_whose_index_takes_no_write_is_found_behind_and_later_and_later() {
    let (backends, partitions, generation, _folder) = blocked().await;
    let held = backends.log.extent(PARTITION).await.unwrap();
    let lags = Lags::default();
    let worker = Worker {
        backends,
        generation,
        partition: PARTITION,
        slots: partitions.slots(PARTITION),
        epoch: Epoch::new(2),
        clock: Clock::system(),
        visibility: Visibility::default(),
        roster: Roster::default(),
        right_of_way: RightOfWay::default(),
        lag: lags.of(generation),
    };
    let found = |second| lags.by_role(&held, at(second), |_| Some(Role::Active)).remove(&Role::Active);
    let looking = async {
        while found(0).is_none() {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(found(30), Some(Behind { records: 3, age: seconds(30) }));
    };
    tokio::select! {
        biased;
        ended = worker.run(CancellationToken::new()) => panic!("{ended:?}"),
        known = timeout(KNOWN_WITHIN, looking) => known.expect("something is known of a worker that has begun"),
    }
}
