//! What is told of a job: its state, and how far each partition of its generation has come.

use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use shared::backends::Backends;
use shared::clock::Clock;
use shared::error::BackendError;
use shared::event::StreamAfter;
use shared::index::{BalanceIndex, Checkpoint, Generation, Phase};
use shared::partition::{Partition, PartitionMap, Slot, SlotRange};
use utoipa::ToSchema;

use super::job::{Job, JobState};

/// How many checkpoints are read at once.
const CHECKPOINTS_AT_ONCE: usize = 8;

/// How often a watched job is looked at by each client if it has few partitions.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(200);

/// How often if it has many.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// The time between two looks for each partition, whose checkpoint is a read of its own.
const LOOK_EVERY_PER_PARTITION: Duration = Duration::from_millis(25);

/// Progress of one partition of the new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RebuildPartition)]
pub struct PartitionProgress {
    /// Partition number, from 1.
    #[schema(value_type = u16)]
    pub partition: Partition,
    /// `waiting`, `replaying` or `live`.
    pub state: &'static str,
    /// Events replayed.
    pub done: u64,
    /// Events to replay: an estimate until the replay is done, null before its first event.
    pub total: Option<u64>,
}

/// A job and its progress.
#[derive(Clone, Debug, PartialEq)]
pub struct RebuildStatus {
    /// The job.
    pub job: Job,
    /// One entry for each partition, in order; empty for a job that has no generation yet, or has ended without a
    /// switch: what it had built is discarded.
    pub partitions: Vec<PartitionProgress>,
    /// Events replayed per second since the job began; `None` before the first.
    pub events_per_second: Option<u64>,
    /// Seconds until the replay is done at this rate; `None` when unknown or done.
    pub eta_seconds: Option<u64>,
}

/// How long whoever watches a job waits before the next look at it, if it has told of this many partitions.
#[must_use]
pub fn look_again_after(partitions: usize) -> Duration {
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    LOOK_EVERY_PER_PARTITION.saturating_mul(partitions).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)
}

/// A job as it is now, and how far its generation has come.
pub(super) async fn describe<B: Backends>(
    backends: &B,
    map: PartitionMap,
    clock: &Clock,
    job: Job,
) -> Result<RebuildStatus, BackendError> {
    let partitions = match job.generation.filter(|_| !matches!(job.state, JobState::Failed | JobState::Cancelled)) {
        Some(generation) => progress_of_all(backends, map, generation).await?,
        None => Vec::new(),
    };
    let until = job.finished_at.unwrap_or_else(|| clock.now());
    let micros = job.started_at.until(until).as_micros().max(1);
    let done: u64 = partitions.iter().map(|partition| partition.done).sum();
    let rate = u64::try_from(u128::from(done) * 1_000_000 / micros).ok().filter(|rate| *rate > 0);
    let left: u64 = partitions.iter().map(|p| p.total.unwrap_or(0).saturating_sub(p.done)).sum();
    let estimated = partitions.iter().all(|partition| partition.total.is_some());
    let eta = rate.filter(|_| estimated && job.state == JobState::Replaying).map(|rate| left.div_ceil(rate));
    Ok(RebuildStatus { job, partitions, events_per_second: rate, eta_seconds: eta })
}

async fn progress_of_all<B: Backends>(
    backends: &B,
    map: PartitionMap,
    generation: Generation,
) -> Result<Vec<PartitionProgress>, BackendError> {
    stream::iter(map.all())
        .map(|partition| progress_of(backends, map, generation, partition))
        .buffered(CHECKPOINTS_AT_ONCE)
        .try_collect()
        .await
}

async fn progress_of<B: Backends>(
    backends: &B,
    map: PartitionMap,
    generation: Generation,
    partition: Partition,
) -> Result<PartitionProgress, BackendError> {
    let checkpoint = backends.index().checkpoint(generation, partition).await?;
    Ok(progress(partition, map.slots(partition), checkpoint))
}

fn progress(partition: Partition, slots: SlotRange, checkpoint: Option<Checkpoint>) -> PartitionProgress {
    let (state, done, total) = match checkpoint.map(|checkpoint| checkpoint.phase) {
        None => ("waiting", 0, None),
        Some(Phase::Replaying { after, done }) => ("replaying", done, after.map(|after| whole(slots, after, done))),
        Some(Phase::Live { replayed }) => ("live", replayed, Some(replayed)),
    };
    PartitionProgress { partition, state, done, total }
}

/// Estimates how many events a partition holds, given that `done` of them lie before a place: accounts are spread
/// evenly over slots, and a replay passes them in order. Counting them would take as long as the replay.
fn whole(slots: SlotRange, place: StreamAfter, done: u64) -> u64 {
    let width = u64::from(slots.end - slots.start);
    let passed = u64::from(Slot::of(&place.stream).get().saturating_sub(slots.start)) + 1;
    (done.saturating_mul(width) / passed).max(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coordinate::Version;
    use shared::id::AccountId;

    #[test]
    fn a_job_of_many_partitions_is_looked_at_less_often_and_never_without_a_pause() {
        let pauses = [0, 1, 8, 16, 64, usize::MAX].map(|partitions| look_again_after(partitions).as_millis());
        assert_eq!(pauses, [200, 200, 200, 400, 1_000, 1_000]);
    }

    #[test]
    fn a_replay_that_has_come_halfway_has_as_much_to_do_again() {
        let stream = AccountId::from_bytes([7; 16]);
        let slot = Slot::of(&stream).get();
        let place = StreamAfter { stream, after: Version::new(1) };
        let half = SlotRange { start: slot - 99, end: slot + 101 };
        assert_eq!(whole(half, place, 500), 1_000);
        let last = SlotRange { start: slot - 99, end: slot + 1 };
        assert_eq!(whole(last, place, 500), 500, "the last slot is the end");
        assert_eq!(whole(SlotRange { start: slot, end: slot + 1 }, place, u64::MAX), u64::MAX);
    }
}
