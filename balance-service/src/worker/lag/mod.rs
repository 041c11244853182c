//! How far the workers of a partition lag behind the log, measured outside of them: one that fails again and again,
//! waits for a backend, or has not written anything yet, must not look idle.
//!
//! The age is that of the oldest record that waits. A worker knows it once it has read that record. Until then the last
//! record it has written is nearly as old, but only if it came after everything before had been written: after hours
//! without events it says nothing about the next one. Otherwise the age counts from when the worker was first found
//! behind.
//!
//! The gauges tell the workers apart by the roles of their generations. The number of a generation would be a label
//! that takes a new value with each rebuild, and the recorder never forgets a series. Since a role passes from one
//! generation to the next, all gauges of a partition are set together, by its owner: no worker can set back what
//! another has set.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use metrics::{Gauge, gauge};
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Offset;
use shared::index::{Checkpoint, Generation, Phase};
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

/// How far a worker has come; `None` until it has read its checkpoint.
type Place = Mutex<Option<Reached>>;

/// The place in the log up to which everything is written, and for how long what follows has waited.
struct Reached {
    incarnation: Incarnation,
    offset: Offset,
    /// When the next record was made, or else the last one written; `None` if the worker has read no record since it
    /// was last found to be behind nothing.
    made: Option<Timestamp>,
    /// When the worker was first found behind; `None` if it was not the last time.
    behind_since: Option<Timestamp>,
}

impl Lag {
    /// Notes where a worker begins: at its checkpoint; without one, or with a replay to do, nothing counts as written.
    pub(super) fn begins(&self, noted: Option<&Checkpoint>, extent: &Extent) {
        match noted.filter(|noted| matches!(noted.phase, Phase::Live { .. })) {
            Some(noted) => self.reached(&noted.incarnation, noted.offset, None),
            None => self.reached(&extent.incarnation, extent.trimmed, None),
        }
    }

    /// Notes when the next record to be written was made.
    pub(super) fn read(&self, made: Timestamp) {
        if let Some(reached) = self.place().as_mut() {
            reached.made = Some(made);
        }
    }

    /// Notes that everything up to this place is written; the record there was made at `made`, if that is known.
    pub(super) fn reached(&self, incarnation: &Incarnation, offset: Offset, made: Option<Timestamp>) {
        let mut reached = self.place();
        match reached.as_mut().filter(|reached| reached.incarnation == *incarnation) {
            Some(reached) => {
                reached.offset = offset;
                reached.made = made.or(reached.made);
            }
            None => *reached = Some(Reached { incarnation: incarnation.clone(), offset, made, behind_since: None }),
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<Reached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lags of all workers of a partition.
#[derive(Default)]
pub(crate) struct Lags(Mutex<Vec<(Generation, Weak<Place>)>>);

impl Lags {
    /// The lag of a new worker.
    pub(crate) fn of(&self, generation: Generation) -> Lag {
        let lag = Lag::default();
        let mut workers = self.workers();
        workers.retain(|(_, place)| place.strong_count() > 0);
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
            // While the log does not answer, what it held before is the best that is known.
            if self.is_any_running()
                && let Ok(held) = log.extent(partition).await
            {
                extent = Some(held);
            }
            let Some(extent) = &extent else { continue };
            let lags = self.by_role(extent, clock.now(), |generation| roster.role(generation));
            for gauges in &gauges {
                gauges.show(lags.get(&gauges.role).copied().unwrap_or_default());
            }
        }
    }

    fn is_any_running(&self) -> bool {
        self.workers().iter().any(|(_, place)| place.strong_count() > 0)
    }

    /// The lag in each role that the generation of a running worker has; if several have the same one, the largest.
    fn by_role(
        &self,
        extent: &Extent,
        now: Timestamp,
        role_of: impl Fn(Generation) -> Option<Role>,
    ) -> BTreeMap<Role, Behind> {
        let mut lags: BTreeMap<Role, Behind> = BTreeMap::new();
        let workers = self.workers();
        for (generation, place) in &*workers {
            let Some(running) = place.upgrade().map(Lag) else { continue };
            let Some(behind) = running.place().as_mut().map(|reached| reached.behind(extent, now)) else { continue };
            let Some(role) = role_of(*generation) else { continue };
            let lag = lags.entry(role).or_default();
            lag.records = lag.records.max(behind.records);
            lag.age = lag.age.max(behind.age);
        }
        lags
    }

    fn workers(&self) -> MutexGuard<'_, Vec<(Generation, Weak<Place>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a worker has not written yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Behind {
    records: u64,
    /// How long the oldest of it has waited, as far as is known.
    age: Duration,
}

impl Reached {
    /// What is not written yet. In another incarnation of the log that is all there is, and a worker that has not
    /// synchronised with the store is behind even if that is nothing.
    fn behind(&mut self, extent: &Extent, now: Timestamp) -> Behind {
        let continues = self.incarnation == extent.incarnation;
        let done = if continues { self.offset } else { extent.trimmed };
        let records = extent.last.get().saturating_sub(done.get());
        if continues && records == 0 {
            (self.made, self.behind_since) = (None, None);
            return Behind::default();
        }
        let since = *self.behind_since.get_or_insert(now);
        Behind { records, age: self.made.unwrap_or(since).until(now) }
    }
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
mod tests;
