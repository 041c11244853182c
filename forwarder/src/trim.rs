//! Forgetting what nobody needs: the log must not grow for ever.
//!
//! A record goes when it lies below the floor of every projection *and* is older than the window. A partition for which
//! no projection has noted a floor yet is left alone.

use std::convert::Infallible;

use metrics::counter;
use shared::clock::Clock;
use shared::coordinate::Offset;
use shared::error::BackendError;
use shared::log::floor::{Floor, read_floors};
use shared::log::{Extent, PartitionLog};
use shared::store::Registers;
use shared::telemetry::metric::LOG_TRIMMED;
use tracing::{debug, info};

use crate::ForwarderConfig;

/// Trims again and again; a round that fails is made up for by the next one.
pub(crate) async fn keep_trimming<R: Registers, L: PartitionLog>(
    config: &ForwarderConfig,
    registers: &R,
    log: &L,
    clock: &Clock,
) -> Infallible {
    loop {
        tokio::time::sleep(config.trim_every).await;
        match trim(config, registers, log, clock).await {
            Ok(0) => {}
            Ok(records) => info!(records, "log trimmed"),
            Err(failure) => debug!(%failure, "log not trimmed, trying again later"),
        }
    }
}

async fn trim<R: Registers, L: PartitionLog>(
    config: &ForwarderConfig,
    registers: &R,
    log: &L,
    clock: &Clock,
) -> Result<u64, BackendError> {
    let floors = read_floors(registers).await?;
    let before = clock.now().minus(config.log_window);
    let mut trimmed = 0;
    for partition in config.partitions.all() {
        let extent = log.extent(partition).await?;
        let of_partition = floors.iter().filter(|floor| floor.partition == partition);
        if let Some(through) = lowest(of_partition, &extent).filter(|through| *through > extent.trimmed) {
            trimmed += log.trim(partition, through, before).await?;
        }
    }
    counter!(LOG_TRIMMED.name).increment(trimmed);
    Ok(trimmed)
}

/// The lowest floor of a partition's present life. A floor of an earlier life needs no record of this one.
fn lowest<'a>(floors: impl Iterator<Item = &'a Floor>, extent: &Extent) -> Option<Offset> {
    floors.filter(|floor| floor.incarnation == extent.incarnation).map(|floor| floor.offset).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::log::Incarnation;
    use shared::partition::Partition;

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
