//! How far a worker lags behind the log, measured outside the worker: one that fails again and again, or waits for a
//! backend, must not look idle.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Gauge, gauge};
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Offset;
use shared::index::Generation;
use shared::log::{Extent, Incarnation, PartitionLog};
use shared::partition::Partition;
use shared::telemetry::metric::{LAG_EVENTS, LAG_SECONDS};
use tokio::time::sleep;

/// How often the lag is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// What is known of how far a worker has come. Clones share it.
#[derive(Clone)]
pub(crate) struct Lag {
    generation: Generation,
    partition: Partition,
    reached: Arc<Mutex<Option<Reached>>>,
}

/// The place in the log up to which everything is written.
#[derive(Clone)]
struct Reached {
    incarnation: Incarnation,
    offset: Offset,
    /// When the record at that place was made; `None` if the worker has not written any yet.
    newest: Option<Timestamp>,
}

impl Lag {
    /// The lag of a worker that has not written anything yet.
    pub(crate) fn new(generation: Generation, partition: Partition) -> Self {
        Self { generation, partition, reached: Arc::default() }
    }

    /// Notes that everything up to this place is written; the record there was made at `newest`.
    pub(super) fn reached(&self, incarnation: &Incarnation, offset: Offset, newest: Option<Timestamp>) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        match reached.as_mut().filter(|reached| reached.incarnation == *incarnation) {
            Some(reached) => {
                reached.offset = offset;
                reached.newest = newest.or(reached.newest);
            }
            None => *reached = Some(Reached { incarnation: incarnation.clone(), offset, newest }),
        }
    }

    /// Measures repeatedly until dropped. That happens when the worker ends, and an ended worker has no lag.
    pub(crate) async fn keep_measuring<L: PartitionLog>(&self, log: &L, clock: &Clock) -> Infallible {
        let labels = [("partition", self.partition.to_string()), ("generation", self.generation.to_string())];
        let gauges = Gauges { records: gauge!(LAG_EVENTS.name, &labels), seconds: gauge!(LAG_SECONDS.name, &labels) };
        loop {
            sleep(MEASURE_EVERY).await;
            let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(reached) = reached else { continue };
            let Ok(extent) = log.extent(self.partition).await else { continue };
            let behind = reached.behind(&extent);
            let age = reached.newest.filter(|_| behind > 0).map_or(Duration::ZERO, |newest| newest.until(clock.now()));
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; lags beyond 2^52 writes do not occur")]
            gauges.records.set(behind as f64);
            gauges.seconds.set(age);
        }
    }
}

impl Reached {
    /// How many records are not written yet; in another incarnation of the log, all there are.
    fn behind(&self, extent: &Extent) -> u64 {
        let done = if self.incarnation == extent.incarnation { self.offset } else { extent.trimmed };
        extent.last.get().saturating_sub(done.get())
    }
}

/// The gauges of one worker; they return to zero when it ends.
struct Gauges {
    records: Gauge,
    seconds: Gauge,
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.records.set(0.0);
        self.seconds.set(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(name: &str) -> Incarnation {
        Incarnation(name.into())
    }

    #[test]
    fn what_is_behind_is_counted_within_one_life_of_the_log() {
        let lag = Lag::new(Generation(1), Partition::new(1));
        let behind = |extent: &Extent| lag.reached.lock().unwrap().as_ref().map(|reached| reached.behind(extent));
        let (trimmed, last) = (Offset::new(40), Offset::new(100));
        let extent = |name| Extent { incarnation: life(name), trimmed, last };
        assert_eq!(behind(&extent("a")), None, "nothing is known before the first batch");
        lag.reached(&life("a"), Offset::new(70), Some(Timestamp::from_micros(5)));
        assert_eq!(behind(&extent("a")), Some(30));
        assert_eq!(behind(&extent("b")), Some(60), "of another life everything is missing");
        lag.reached(&life("a"), last, None);
        assert_eq!(behind(&extent("a")), Some(0));
        let newest = lag.reached.lock().unwrap().as_ref().unwrap().newest;
        assert_eq!(newest, Some(Timestamp::from_micros(5)), "a batch without records makes nothing younger");
    }
}
