//! Which generations are to be fed, as this process sees it.
//!
//! The truth is the index (which generation is active) and the job in the store. Every process reads both from time to
//! time, and at once when it is nudged. Seeing a change late costs time: a generation that is fed too long refuses the
//! writes or skips them, and one that is fed too late is filled from the store.

use std::sync::Arc;
use std::time::Duration;

use shared::backends::Backends;
use shared::clock::Clock;
use shared::error::BackendError;
use shared::index::{BalanceIndex, Generation};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::rebuild::{JobFile, fed};

/// How often a process looks for changes that another process made.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Wakes whoever waits for a change of the job or of the generations.
#[derive(Clone, Debug, Default)]
pub struct Nudge {
    roster: Arc<Notify>,
    conductor: Arc<Notify>,
}

impl Nudge {
    /// Wakes the roster and the conductor of this process, now or when they wait next.
    pub fn all(&self) {
        self.roster.notify_one();
        self.conductor.notify_one();
    }

    /// Waits until something may have changed for the conductor.
    pub(crate) async fn conductor(&self, at_most: Duration) {
        tokio::select! {
            biased;
            () = self.conductor.notified() => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    async fn roster(&self, at_most: Duration) {
        tokio::select! {
            biased;
            () = self.roster.notified() => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }
}

/// The generations to feed.
pub(crate) type Roster = watch::Receiver<Vec<Generation>>;

/// Keeps the roster up to date until `shutdown`.
pub(crate) async fn keep_roster<B: Backends>(
    backends: B,
    clock: Clock,
    nudge: Nudge,
    roster: Arc<watch::Sender<Vec<Generation>>>,
    shutdown: CancellationToken,
) -> Result<(), BackendError> {
    while !shutdown.is_cancelled() {
        let generations = backends.index().generations().await?;
        let file = JobFile::load(backends.store()).await?;
        let mut fed = fed(generations.active, file.job.as_ref(), clock.now());
        fed.retain(|generation| generations.all.contains(generation));
        roster.send_if_modified(|current| {
            let changed = *current != fed;
            *current = fed;
            changed
        });
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = nudge.roster(LOOK_EVERY) => {}
        }
    }
    Ok(())
}
