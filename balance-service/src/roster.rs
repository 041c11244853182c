//! The generations to feed, and the repairs that wait for a worker, as this process sees them.
//!
//! The source of truth is the index (which generation is active) and registers of the store. Every process reads both
//! periodically, and at once when it is nudged. Seeing a change late only costs time: a generation that is fed for too
//! long refuses or skips the writes, and one that is fed too late is filled from the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::gauge;
use shared::backends::Backends;
use shared::clock::Clock;
use shared::coordinate::Revision;
use shared::error::BackendError;
use shared::index::{BalanceIndex, Generation};
use shared::partition::Partition;
use shared::telemetry::metric::REBUILD_RUNNING;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::nudge::{LOOK_EVERY, Nudge};
use crate::rebuild::{JobFile, fed};
use crate::repair::requests;

/// What a process saw at its last look, and a notification for the tasks that act on it. Cheap to clone.
///
/// Not a `watch` channel: it wakes its receivers in random order, so a simulation could not repeat a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster(Arc<Posted>);

#[derive(Debug, Default)]
struct Posted {
    seen: Mutex<Seen>,
    changed: Notify,
}

/// What a generation is fed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// It answers queries.
    Active,
    /// A running job is to switch queries to it.
    Building,
    /// A rollback would switch queries back to it.
    Standby,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Active, Self::Building, Self::Standby];

    /// How metrics name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Building => "building",
            Self::Standby => "standby",
        }
    }
}

/// What a process saw at its last look.
#[derive(Debug, Default)]
struct Seen {
    fed: Vec<Generation>,
    active: Option<Generation>,
    /// The one that a running job is to switch to.
    building: Option<Generation>,
    /// The requests for repairs.
    requests: BTreeMap<Partition, Revision>,
}

impl Seen {
    /// What a generation is fed for; `None` if it is not fed.
    fn role(&self, generation: Generation) -> Option<Role> {
        if self.active == Some(generation) {
            Some(Role::Active)
        } else if self.building == Some(generation) {
            Some(Role::Building)
        } else {
            self.fed.contains(&generation).then_some(Role::Standby)
        }
    }
}

impl Roster {
    /// The generations to feed.
    pub(crate) fn fed(&self) -> Vec<Generation> {
        self.look().fed.clone()
    }

    /// The generation that answers queries, as soon as there is one.
    pub(crate) async fn active(&self) -> Generation {
        loop {
            // Registered before the look, so that no change in between is missed.
            let changed = self.0.changed.notified();
            let active = self.look().active;
            if let Some(active) = active {
                return active;
            }
            changed.await;
        }
    }

    /// What this generation is fed for; `None` if it is not fed.
    pub(crate) fn role(&self, generation: Generation) -> Option<Role> {
        self.look().role(generation)
    }

    /// Whether this generation answers queries.
    pub(crate) fn is_active(&self, generation: Generation) -> bool {
        self.role(generation) == Some(Role::Active)
    }

    /// Whether this generation is fed only for a rollback, so that no query waits for its documents.
    pub(crate) fn is_on_standby(&self, generation: Generation) -> bool {
        self.role(generation) == Some(Role::Standby)
    }

    /// The request for a repair that waits for the worker of a partition. It may have been carried out since.
    pub(crate) fn repair_request(&self, partition: Partition) -> Option<Revision> {
        self.look().requests.get(&partition).copied()
    }

    /// Waits until this generation is not on standby: a rollback, for which it was kept, is to switch to it.
    pub(crate) async fn called_up(&self, generation: Generation) {
        self.until(|seen| seen.role(generation) != Some(Role::Standby)).await;
    }

    fn look(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the generations to feed differ from these.
    pub(crate) async fn changed_from(&self, known: &[Generation]) {
        self.until(|seen| seen.fed != known).await;
    }

    /// Waits until the posted state satisfies `is_so`.
    async fn until(&self, is_so: impl Fn(&Seen) -> bool) {
        loop {
            // Registered before the look, so that no change in between is missed.
            let changed = self.0.changed.notified();
            if is_so(&self.look()) {
                return;
            }
            changed.await;
        }
    }

    fn post(&self, seen: Seen) {
        *self.look() = seen;
        self.0.changed.notify_waiters();
    }
}

/// Keeps the roster up to date until `shutdown`.
pub(crate) async fn keep_roster<B: Backends>(
    backends: B,
    clock: Clock,
    nudge: Nudge,
    roster: Roster,
    shutdown: CancellationToken,
) -> Result<(), BackendError> {
    while !shutdown.is_cancelled() {
        let generations = backends.index().generations().await?;
        let file = JobFile::load(backends.store()).await?;
        let mut fed = fed(generations.active, file.job.as_ref(), clock.now());
        fed.retain(|generation| generations.all.contains(generation));
        let running = file.job.filter(|job| job.state.is_running());
        gauge!(REBUILD_RUNNING.name).set(u8::from(running.is_some()));
        let building = running.and_then(|job| job.generation);
        let requests = requests(backends.store()).await?;
        roster.post(Seen { fed, active: generations.active, building, requests });
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = nudge.roster(LOOK_EVERY) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_has_the_role_it_is_fed_for() {
        let [first, second, third] = [1, 2, 3].map(Generation);
        let roster = Roster::default();
        let roles = |active, building, fed: &[Generation]| {
            roster.post(Seen { fed: fed.to_vec(), active, building, ..Seen::default() });
            [first, second, third].map(|generation| roster.role(generation).map(Role::name))
        };
        assert_eq!(roles(Some(first), None, &[first]), [Some("active"), None, None]);
        assert_eq!(roles(Some(first), Some(second), &[first, second]), [Some("active"), Some("building"), None]);
        // Switched, but the job has not noted it yet.
        assert_eq!(roles(Some(second), Some(second), &[first, second]), [Some("standby"), Some("active"), None]);
        assert_eq!(roles(Some(second), None, &[first, second]), [Some("standby"), Some("active"), None]);
        assert_eq!(roles(Some(second), Some(third), &[second, third]), [None, Some("active"), Some("building")]);
    }

    #[tokio::test]
    async fn a_generation_on_standby_is_called_up_when_a_rollback_is_to_switch_to_it() {
        let [first, second] = [1, 2].map(Generation);
        let roster = Roster::default();
        let post = |building| {
            roster.post(Seen { fed: vec![first, second], active: Some(second), building, ..Seen::default() });
        };
        // Switched, but the job has not noted it yet: the one before is on standby already.
        for building in [Some(second), None] {
            post(building);
            assert_eq!([first, second].map(|generation| roster.is_on_standby(generation)), [true, false]);
        }
        let called_up = roster.called_up(first);
        tokio::pin!(called_up);
        assert!(futures::poll!(&mut called_up).is_pending());
        post(Some(first));
        called_up.await;
        assert!(!roster.is_on_standby(first));
    }
}
