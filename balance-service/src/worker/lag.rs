//! How far the workers of a partition lag behind the log, measured outside of them: one that fails again and again, or
//! waits for a backend, must not look idle.
//!
//! The gauges tell the workers apart by the roles of their generations. The number of a generation would be a label
//! that takes a new value with each rebuild, and the recorder never forgets a series. Since a role passes from one
//! generation to the next, all gauges of a partition are set together, by its owner: no worker can set back what
//! another has set.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use metrics::{Gauge, gauge};
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Offset;
use shared::index::Generation;
use shared::log::{Extent, Incarnation, PartitionLog};
use shared::partition::Partition;
use shared::telemetry::metric::{LAG_EVENTS, LAG_SECONDS};
use tokio::time::sleep;

use crate::roster::{Role, Roster};

/// How often the lag is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// What is known of how far a worker has come. Clones share it, and it is measured until the last of them is dropped:
/// that happens when the worker ends, and an ended worker has no lag.
#[derive(Clone, Default)]
pub(crate) struct Lag(Arc<Place>);

/// How far a worker has come; `None` if it has not written anything yet.
type Place = Mutex<Option<Reached>>;

/// The place in the log up to which everything is written.
#[derive(Clone)]
struct Reached {
    incarnation: Incarnation,
    offset: Offset,
    /// When the record at that place was made; `None` if the worker has not written any yet.
    newest: Option<Timestamp>,
}

impl Lag {
    /// Notes that everything up to this place is written; the record there was made at `newest`.
    pub(super) fn reached(&self, incarnation: &Incarnation, offset: Offset, newest: Option<Timestamp>) {
        let mut reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reached.as_mut().filter(|reached| reached.incarnation == *incarnation) {
            Some(reached) => {
                reached.offset = offset;
                reached.newest = newest.or(reached.newest);
            }
            None => *reached = Some(Reached { incarnation: incarnation.clone(), offset, newest }),
        }
    }
}

/// The lags of all workers of a partition.
#[derive(Default)]
pub(crate) struct Lags(Mutex<Vec<(Generation, Weak<Place>)>>);

impl Lags {
    /// The lag of a new worker, which has not written anything yet.
    pub(crate) fn of(&self, generation: Generation) -> Lag {
        let lag = Lag::default();
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|(_, reached)| reached.strong_count() > 0);
        workers.push((generation, Arc::downgrade(&lag.0)));
        lag
    }

    /// Measures repeatedly until dropped.
    pub(crate) async fn keep_measuring<L: PartitionLog>(
        &self,
        partition: Partition,
        log: &L,
        clock: &Clock,
        roster: &Roster,
    ) -> Infallible {
        let gauges = Role::ALL.map(|role| Gauges::new(partition, role));
        let mut extent = None;
        loop {
            sleep(MEASURE_EVERY).await;
            let workers = self.reached();
            // While the log does not answer, what it held before is the best that is known.
            if !workers.is_empty()
                && let Ok(held) = log.extent(partition).await
            {
                extent = Some(held);
            }
            let Some(extent) = &extent else { continue };
            let lags = by_role(&workers, extent, clock.now(), |generation| roster.role(generation));
            for gauges in &gauges {
                gauges.show(lags.get(&gauges.role).copied().unwrap_or_default());
            }
        }
    }

    /// How far the running workers have come, without those that have not written anything yet.
    fn reached(&self) -> Vec<(Generation, Reached)> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = workers.iter().filter_map(|(generation, reached)| Some((*generation, reached.upgrade()?)));
        running
            .filter_map(|(generation, reached)| {
                let reached = reached.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
                Some((generation, reached))
            })
            .collect()
    }
}

/// What a worker has not written yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Behind {
    records: u64,
    /// Of the last record it has written; zero if nothing is left to write.
    age: Duration,
}

impl Reached {
    /// What is not written yet; in another incarnation of the log, all there is.
    fn behind(&self, extent: &Extent, now: Timestamp) -> Behind {
        let done = if self.incarnation == extent.incarnation { self.offset } else { extent.trimmed };
        let records = extent.last.get().saturating_sub(done.get());
        let age = self.newest.filter(|_| records > 0).map_or(Duration::ZERO, |newest| newest.until(now));
        Behind { records, age }
    }
}

/// The lag in each role that a worker's generation has; if several have the same one, the largest.
fn by_role(
    workers: &[(Generation, Reached)],
    extent: &Extent,
    now: Timestamp,
    role_of: impl Fn(Generation) -> Option<Role>,
) -> BTreeMap<Role, Behind> {
    let mut lags: BTreeMap<Role, Behind> = BTreeMap::new();
    for (generation, reached) in workers {
        let Some(role) = role_of(*generation) else { continue };
        let (lag, behind) = (lags.entry(role).or_default(), reached.behind(extent, now));
        lag.records = lag.records.max(behind.records);
        lag.age = lag.age.max(behind.age);
    }
    lags
}

/// The gauges of one role. They are zero while no worker here has it, and return to zero when the partition is given
/// back.
struct Gauges {
    role: Role,
    records: Gauge,
    seconds: Gauge,
}

impl Gauges {
    fn new(partition: Partition, role: Role) -> Self {
        let labels = [("partition", partition.to_string()), ("generation", role.name().to_owned())];
        Self { role, records: gauge!(LAG_EVENTS.name, &labels), seconds: gauge!(LAG_SECONDS.name, &labels) }
    }

    fn show(&self, lag: Behind) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; lags beyond 2^52 writes do not occur")]
        self.records.set(lag.records as f64);
        self.seconds.set(lag.age);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.show(Behind::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(9);

    fn life(name: &str) -> Incarnation {
        Incarnation(name.into())
    }

    #[test]
    fn what_is_behind_is_counted_within_one_life_of_the_log() {
        let lag = Lag::default();
        let behind = |extent: &Extent| lag.0.lock().unwrap().as_ref().map(|reached| reached.behind(extent, NOW));
        let (trimmed, last) = (Offset::new(40), Offset::new(100));
        let extent = |name| Extent { incarnation: life(name), trimmed, last };
        let age = Duration::from_micros(4);
        assert_eq!(behind(&extent("a")), None, "nothing is known before the first batch");
        lag.reached(&life("a"), Offset::new(70), Some(Timestamp::from_micros(5)));
        assert_eq!(behind(&extent("a")), Some(Behind { records: 30, age }));
        assert_eq!(behind(&extent("b")), Some(Behind { records: 60, age }), "of another life everything is missing");
        lag.reached(&life("a"), last, None);
        assert_eq!(behind(&extent("a")), Some(Behind::default()));
        let newest = lag.0.lock().unwrap().as_ref().unwrap().newest;
        assert_eq!(newest, Some(Timestamp::from_micros(5)), "a batch without records makes nothing younger");
    }

    #[test]
    fn a_lag_moves_with_the_role_and_ends_with_the_worker() {
        let lags = Lags::default();
        let (old, new) = (lags.of(Generation(1)), lags.of(Generation(2)));
        let extent = Extent { incarnation: life("a"), trimmed: Offset::new(0), last: Offset::new(100) };
        let records = |role_of: fn(Generation) -> Option<Role>| {
            let lags = by_role(&lags.reached(), &extent, NOW, role_of);
            Role::ALL.map(|role| lags.get(&role).map(|lag| lag.records))
        };
        let building =
            |generation: Generation| Some(if generation == Generation(1) { Role::Active } else { Role::Building });
        let switched =
            |generation: Generation| Some(if generation == Generation(2) { Role::Active } else { Role::Standby });
        assert_eq!(records(building), [None; 3], "nothing is known before the first batch");
        old.reached(&life("a"), Offset::new(99), None);
        new.reached(&life("a"), Offset::new(60), None);
        assert_eq!(records(building), [Some(1), Some(40), None]);
        assert_eq!(records(switched), [Some(40), None, Some(1)]);
        assert_eq!(records(|_| Some(Role::Standby)), [None, None, Some(40)], "the largest counts");
        assert_eq!(records(|_| None), [None; 3], "nothing waits for a generation that is not fed");
        drop(old);
        assert_eq!(records(switched), [Some(40), None, None]);
    }
}
