//! How a process is told at once of what it would otherwise notice at its next look.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How often a process looks for changes made by other processes.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Wakes the tasks that wait for a change of the job or of the generations, and shows them whether a check runs that a
/// client has asked this process for.
#[derive(Clone, Debug, Default)]
pub struct Nudge {
    roster: Arc<Notify>,
    conductor: Arc<Notify>,
    pub(crate) checks: Turn,
}

impl Nudge {
    /// Wakes the roster and the conductor of this process, now or the next time they wait.
    pub fn all(&self) {
        self.roster.notify_one();
        self.conductor.notify_one();
    }

    /// Waits until something may have changed for the conductor, or until the time is up.
    pub(crate) async fn conductor(&self, at_most: Duration) {
        _ = timeout(at_most, self.conductor.notified()).await;
    }

    /// Waits until something may have changed for the roster, or until the time is up.
    pub(crate) async fn roster(&self, at_most: Duration) {
        _ = timeout(at_most, self.roster.notified()).await;
    }
}

/// The turn of the checks that clients of a process request: one at a time, since each may read the whole store. Cheap
/// to clone.
#[derive(Clone, Debug)]
pub(crate) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turn {
    /// Takes it; `None` while a check runs.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }

    /// Whether a check runs.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.available_permits() == 0
    }
}
