//! The checkpoint of a worker that follows the log.
//!
//! It is a write of its own beside the projection, never in its way: an event that comes while a checkpoint is being
//! written is shown all the same. It covers only what was written before it was begun (law W2). One is noted for
//! several batches, by all workers at the same moments, so that one write carries all of theirs. A crash repeats the
//! batches since the last one.
//!
//! From time to time it is looked for in the index (law W5), and the forwarder is told what the worker no longer needs.

use std::time::Duration;

use shared::backends::Backends;
use shared::clock::Timestamp;
use shared::coordinate::Offset;
use shared::index::{BalanceIndex, Checkpoint};
use shared::log::floor::{Floor, write_floor};
use shared::pace::until_beat;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{Stopped, Worker};

/// How often a checkpoint is noted while records come: the first at once, the others between two beats, when no
/// documents are written. A crash repeats at most that much.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);

/// How long after a beat checkpoints are noted.
const CHECKPOINT_BEHIND_BEAT: Duration = Duration::from_millis(50);

/// How often the worker checks that its checkpoint is still in the index, and tells the forwarder how far it has come.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

impl<B: Backends> Worker<B> {
    /// Notes how far everything is written, until nobody goes on.
    pub(super) async fn keep_checkpoint(
        &self,
        mut noted: Checkpoint,
        mut reached: watch::Receiver<Offset>,
    ) -> Result<(), Stopped> {
        let (mut may_be_noted, mut upkeep) = (Instant::now(), Instant::now() + UPKEEP_EVERY);
        let mut floor = None;
        loop {
            let goes_on = tokio::select! {
                biased;
                goes_on = until_due(&mut reached, noted.offset, may_be_noted) => goes_on,
                () = sleep_until(upkeep) => {
                    self.note_floor(&mut floor, &noted).await;
                    if !self.still_stands(&noted).await {
                        return Err(Stopped::Overwritten);
                    }
                    upkeep = Instant::now() + UPKEEP_EVERY;
                    continue;
                }
            };
            let offset = *reached.borrow();
            if offset != noted.offset {
                noted.offset = offset;
                self.note(noted.clone()).await?;
                may_be_noted = next_moment(self.clock.now());
            }
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Whether the checkpoint is still in the index (law W5); assumed if the index does not say.
    async fn still_stands(&self, noted: &Checkpoint) -> bool {
        let stored = self.backends.index().checkpoint(self.generation, self.partition).await;
        stored.map_or(true, |stored| stored.as_ref() == Some(noted))
    }

    /// Tells the forwarder how far the worker has come, not further than the checkpoint: everything after it would be
    /// read again. A failure is made up for next time.
    async fn note_floor(&self, last: &mut Option<Offset>, noted: &Checkpoint) {
        if *last == Some(noted.offset) {
            return;
        }
        let floor = Floor { partition: self.partition, incarnation: noted.incarnation.clone(), offset: noted.offset };
        match write_floor(self.backends.store(), self.generation, &floor).await {
            Ok(()) => *last = Some(noted.offset),
            Err(failure) => debug!(partition = %self.partition, %failure, "floor not noted"),
        }
    }
}

/// Waits until more is written than was noted, and its time has come. Says whether the projection goes on.
async fn until_due(reached: &mut watch::Receiver<Offset>, noted: Offset, may_be_noted: Instant) -> bool {
    if reached.wait_for(|offset| *offset != noted).await.is_err() {
        return false;
    }
    tokio::select! {
        biased;
        _ = reached.wait_for(|_| false) => false,
        () = sleep_until(may_be_noted) => true,
    }
}

/// When the checkpoint after one that was noted just now may be noted.
fn next_moment(now: Timestamp) -> Instant {
    Instant::now() + until_beat(CHECKPOINT_EVERY, now.minus(CHECKPOINT_BEHIND_BEAT))
}
