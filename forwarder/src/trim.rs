//! Trims the log, so that it does not grow for ever.
//!
//! A record is removed when it is not above the floor of any projection *and* is older than the window. A partition for
//! which no projection has noted a floor yet is left alone.
//!
//! A full partition takes precedence over the window: its older half is removed however young it is, except records
//! above a floor. Otherwise the view would stand still until the oldest record leaves the window, though every worker
//! has read it.

use std::collections::BTreeSet;
use std::convert::Infallible;

use metrics::counter;
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Offset;
use shared::error::BackendError;
use shared::log::floor::{Floor, read_floors};
use shared::log::{Extent, PartitionLog};
use shared::partition::Partition;
use shared::store::Registers;
use shared::telemetry::metric::LOG_TRIMMED;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::ForwarderConfig;
use crate::full::FullPartitions;

/// Later than every record.
const ANY_AGE: Timestamp = Timestamp::from_micros(i64::MAX);

/// Trims periodically, and at once when a partition is full; the next round makes up for one that fails.
pub(crate) async fn keep_trimming<R: Registers, L: PartitionLog>(
    config: &ForwarderConfig,
    registers: &R,
    log: &L,
    clock: &Clock,
    full: &FullPartitions,
) -> Infallible {
    let mut due = Instant::now() + config.trim_every;
    loop {
        let full = full.wait(due.saturating_duration_since(Instant::now())).await;
        let is_due = Instant::now() >= due;
        if is_due {
            due = Instant::now() + config.trim_every;
        }
        let mut partitions: Vec<Partition> =
            config.partitions.all().filter(|one| is_due || full.contains(one)).collect();
        // The forwarder waits for those that are full, and others may not answer for some seconds each.
        partitions.sort_by_key(|partition| !full.contains(partition));
        match trim(partitions, registers, log, clock.now().minus(config.log_window), &full).await {
            Ok(0) => {}
            Ok(records) => info!(records, "log trimmed"),
            Err(failure) => debug!(%failure, "log not trimmed, trying again later"),
        }
    }
}

/// Trims records older than the window from these partitions, and younger ones too from those that are full. One that
/// does not answer keeps none of the others from being trimmed.
async fn trim<R: Registers, L: PartitionLog>(
    partitions: Vec<Partition>,
    registers: &R,
    log: &L,
    window: Timestamp,
    full: &BTreeSet<Partition>,
) -> Result<u64, BackendError> {
    let floors = read_floors(registers).await?;
    let (mut trimmed, mut failed) = (0, None);
    for partition in partitions {
        match trim_one(partition, &floors, log, window, full.contains(&partition)).await {
            Ok(records) => trimmed += records,
            Err(failure) => failed = Some(failure),
        }
    }
    counter!(LOG_TRIMMED.name).increment(trimmed);
    failed.map_or(Ok(trimmed), Err)
}

/// Trims a partition up to the lowest of its floors.
async fn trim_one<L: PartitionLog>(
    partition: Partition,
    floors: &[Floor],
    log: &L,
    window: Timestamp,
    is_full: bool,
) -> Result<u64, BackendError> {
    let extent = log.extent(partition).await?;
    let of_partition = floors.iter().filter(|floor| floor.partition == partition);
    let Some(floor) = lowest(of_partition, &extent) else { return Ok(0) };
    let (through, before) = if is_full { (floor.min(older_half(&extent)), ANY_AGE) } else { (floor, window) };
    if through > extent.trimmed { log.trim(partition, through, before).await } else { Ok(0) }
}

/// The lowest floor of a partition's current incarnation. A floor of an earlier one needs no record of this one.
fn lowest<'a>(floors: impl Iterator<Item = &'a Floor>, extent: &Extent) -> Option<Offset> {
    floors.filter(|floor| floor.incarnation == extent.incarnation).map(|floor| floor.offset).min()
}

/// The last offset of the older half of a partition.
fn older_half(extent: &Extent) -> Offset {
    let held = extent.last.get().saturating_sub(extent.trimmed.get());
    Offset::new(extent.trimmed.get() + held.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use bytes::Bytes;
    use shared::coordinate::{Position, Version};
    use shared::event::{EncodedEvents, Recorded};
    use shared::id::{AccountId, Ids};
    use shared::index::Generation;
    use shared::log::floor::write_floor;
    use shared::log::{EmbeddedLog, Incarnation};
    use shared::partition::PartitionMap;
    use shared::sqlite::DataFolder;
    use shared::store::{EmbeddedStore, FeedEntry};

    use crate::fake_log::{self, FakeLog, ONE, TWO, Trouble};

    /// A write made just now.
    fn entry(clock: &Clock, version: u64) -> FeedEntry {
        let events = EncodedEvents { count: 1, json: Bytes::from("[{}]") };
        let (stream, first_version) = (AccountId::from_bytes([1; 16]), Version::new(version));
        let recorded = Recorded { stream, first_version, time: clock.now(), events };
        FeedEntry { position: Position::Number(version), recorded }
    }

    #[tokio::test]
    async fn a_full_partition_loses_its_older_half_within_the_window_but_nothing_that_is_needed() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let (partitions, one) = (PartitionMap::new(1).unwrap(), Partition::new(1));
        let folder = DataFolder::open(folder.path()).unwrap();
        let store = EmbeddedStore::open(&folder).unwrap();
        let log = EmbeddedLog::open(&folder, partitions, clock.clone(), Ids::new(clock.clone())).await.unwrap();
        let Extent { incarnation, mut last, .. } = log.extent(one).await.unwrap();
        for version in 1..=10 {
            last = log.publish(one, &incarnation, last, &[entry(&clock, version)]).await.unwrap();
        }
        let floor = async |offset| {
            let floor = Floor { partition: one, incarnation: incarnation.clone(), offset: Offset::new(offset) };
            write_floor(&store, Generation(1), &floor).await.unwrap();
        };
        let an_hour_ago = clock.now().minus(Duration::from_hours(1));
        let (full, none) = (BTreeSet::from([one]), BTreeSet::new());
        let trimmed = async |full| trim(vec![one], &store, &log, an_hour_ago, full).await.unwrap();
        assert_eq!(trimmed(&full).await, 0, "nobody has said what he needs");
        floor(3).await;
        assert_eq!(trimmed(&none).await, 0, "all of it is within the window");
        assert_eq!(trimmed(&full).await, 3, "what lies above the floor is needed");
        floor(10).await;
        assert_eq!(trimmed(&full).await, 4, "the older half of seven");
        assert_eq!(log.extent(one).await.unwrap().trimmed, Offset::new(7));
    }

    #[tokio::test]
    async fn a_partition_that_does_not_answer_keeps_none_behind_it_from_being_trimmed() {
        let (folder, log) = (tempfile::tempdir().unwrap(), FakeLog::default());
        let store = EmbeddedStore::open(&DataFolder::open(folder.path()).unwrap()).unwrap();
        for partition in [ONE, TWO] {
            let Extent { incarnation, last, .. } = log.extent(partition).await.unwrap();
            let writes: Vec<FeedEntry> = (1..=4).map(|version| fake_log::entry(partition, version)).collect();
            let offset = log.publish(partition, &incarnation, last, &writes).await.unwrap();
            write_floor(&store, Generation(1), &Floor { partition, incarnation, offset }).await.unwrap();
        }
        log.make(ONE, Some(Trouble::Fails));
        let failed = trim(vec![ONE, TWO], &store, &log, ANY_AGE, &BTreeSet::new()).await;
        assert_eq!(failed.unwrap_err().operation, "extent");
        let trimmed = [ONE, TWO].map(|partition| log.extent_of(partition).trimmed);
        assert_eq!(trimmed, [Offset::START, Offset::new(4)]);
    }

    #[test]
    fn the_slowest_projection_of_the_present_life_decides() {
        let floor = |life: &str, offset| Floor {
            partition: Partition::new(1),
            incarnation: Incarnation(life.into()),
            offset: Offset::new(offset),
        };
        let extent = Extent { incarnation: Incarnation("b".into()), trimmed: Offset::START, last: Offset::new(100) };
        let floors = [floor("b", 70), floor("a", 3), floor("b", 40)];
        assert_eq!(lowest(floors.iter(), &extent), Some(Offset::new(40)));
        assert_eq!(lowest(floors[1..2].iter(), &extent), None);
    }
}
