//! How a process is told at once of what it would otherwise notice at its next look.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::verify::Turn;

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
