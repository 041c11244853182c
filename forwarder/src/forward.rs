//! The main loop: while one batch is being published, the next one is read. A [`Pace`] spaces out small batches, since
//! each costs a publish to every partition it touches.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::log::PartitionLog;
use shared::pace::Pace;
use shared::partition::Partition;
use shared::retry::Backoff;
use shared::store::{ChangeFeed, FeedBatch, FeedError, Registers, Store, WriteError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::ForwarderConfig;
use crate::checkpoint::{Checkpoint, CheckpointRegister, End};
use crate::full::FullPartitions;
use crate::lanes::{FEED_BATCH_MAX, LOOK_EVERY, Lanes};
use crate::lead::ForwardError;
use crate::resume::{Start, resume};

/// The spacing of small batches: a write is delayed by at most 30 ms, so that others can join it, and by less where
/// publishing is quick.
const PACE: Pace = Pace::new(Duration::from_millis(1), Duration::from_millis(30), FEED_BATCH_MAX / 4);

/// How often it is checked whether there is room for another batch.
const ROOM_CHECK_EVERY: Duration = Duration::from_millis(100);

/// How often the checkpoint is noted while batches keep coming. A crash repeats at most that much, and what is behind
/// the oldest write that a late partition has not taken.
pub(crate) const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

/// The same while nothing is published. Where the store's positions move by themselves, noting each would only move
/// them again; no store forgets a position as recent as this.
const QUIET_CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// Forwards until `shutdown`.
pub(crate) async fn forward<S: Store, L: PartitionLog>(
    config: &ForwarderConfig,
    store: &S,
    log: &L,
    full: &FullPartitions,
    shutdown: &CancellationToken,
) -> Result<(), ForwardError> {
    // The store may take minutes to open the feed. A start that is dropped is made again, as after a crash.
    let started = tokio::select! {
        biased;
        () = shutdown.cancelled() => {
            info!("forwarder stops before it has started");
            return Ok(());
        }
        started = resume(store, log, config.partitions) => started?,
    };
    let Start { mut feed, register, checkpoint } = started;
    let mut noted = Noted { register, checkpoint: checkpoint.clone(), at: Instant::now() };
    let mut lanes = Lanes::new(log, config.partitions, full, checkpoint);
    let (mut pace, mut look_at) = (PACE, Instant::now());
    loop {
        if Instant::now() >= look_at {
            lanes.look();
            look_at = Instant::now() + LOOK_EVERY;
        }
        // The batch read last is published while the next one is read; the checkpoint counts what is published.
        let (has_room, has_read) = (lanes.has_room(), Notify::new());
        let reading = async {
            let next = read_next(&mut feed, &pace, has_room, shutdown).await;
            has_read.notify_one();
            next
        };
        let (published, next) = tokio::join!(lanes.publish_until(has_read.notified()), reading);
        if let Ok(took) = &published {
            pace.taken(writes_in(&next), *took);
        }
        let is_ending = matches!(next, Ok(Next::Stop)) || published.is_err();
        if is_ending || noted.is_due(lanes.ends()) {
            let checkpoint = lanes.checkpoint();
            noted.save(checkpoint).await?;
        }
        published.map_err(ForwardError::LogSilent)?;
        match next? {
            Next::Stop => {
                info!(position = %noted.checkpoint.position, held = lanes.held(), "forwarder stops");
                return Ok(());
            }
            Next::NoRoom => {}
            Next::Batch(batch) => lanes.take(batch),
        }
    }
}

/// The checkpoint noted last.
struct Noted<S> {
    register: CheckpointRegister<S>,
    checkpoint: Checkpoint,
    at: Instant,
}

impl<S: Registers> Noted<S> {
    /// Whether it is so old that it is to be noted again, if the partitions end here now.
    fn is_due(&self, ends: &BTreeMap<Partition, End>) -> bool {
        self.at.elapsed() >= checkpoint_every(&self.checkpoint.ends, ends)
    }

    /// Notes this one in its place; one that says the same is not written again.
    async fn save(&mut self, checkpoint: Checkpoint) -> Result<(), WriteError> {
        if checkpoint != self.checkpoint {
            self.register.save(&checkpoint).await?;
            self.checkpoint = checkpoint;
            self.at = Instant::now();
        }
        Ok(())
    }
}

/// How old the noted checkpoint may become before it is noted again, by the ends noted then and those of now.
fn checkpoint_every(noted: &BTreeMap<Partition, End>, ends: &BTreeMap<Partition, End>) -> Duration {
    if noted == ends { QUIET_CHECKPOINT_EVERY } else { CHECKPOINT_EVERY }
}

/// What the loop goes on with.
enum Next {
    /// The end: the forwarder is to shut down.
    Stop,
    /// Nothing new: the lanes had no room for it. By now they may have some.
    NoRoom,
    /// What the feed has yielded.
    Batch(FeedBatch),
}

/// Reads the next batch of the feed, or waits a while if there is no room for it.
async fn read_next<F: ChangeFeed>(
    feed: &mut F,
    pace: &Pace,
    has_room: bool,
    shutdown: &CancellationToken,
) -> Result<Next, FeedError> {
    let paced = async {
        if !has_room {
            sleep(ROOM_CHECK_EVERY).await;
            return Ok(Next::NoRoom);
        }
        pace.wait().await;
        keep_reading(feed).await.map(Next::Batch)
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(Next::Stop),
        next = paced => next,
    }
}

/// The next batch, after retries: a feed that failed goes on behind what it has yielded, and a start may cost repeats.
async fn keep_reading<F: ChangeFeed>(feed: &mut F) -> Result<FeedBatch, FeedError> {
    let mut backoff = Backoff::default();
    loop {
        match feed.next_batch(FEED_BATCH_MAX).await {
            Err(FeedError::Backend(failure)) => {
                debug!(%failure, "the feed failed, reading on");
                backoff.wait(failure).await?;
            }
            read => return read,
        }
    }
}

fn writes_in(next: &Result<Next, FeedError>) -> usize {
    if let Ok(Next::Batch(batch)) = next { batch.entries.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    use shared::coordinate::Offset;
    use shared::lease::Holder;
    use shared::log::{Extent, Incarnation};
    use tokio::time::timeout;

    use crate::fake_log::{FakeLog, ONE, TWO, entry, partitions};
    use crate::fake_store::FakeStore;

    /// How often one partition gets a write: the feed is never without news for long.
    const WRITE_EVERY: Duration = Duration::from_millis(100);

    /// When the next look is over: it is made when it is due and the next write has come.
    const LOOKED_WITHIN: Duration = Duration::from_secs(LOOK_EVERY.as_secs() + 1);

    /// Waits for a condition until the next look is over.
    async fn until(holds: impl Fn() -> bool) -> bool {
        let waiting = async {
            while !holds() {
                sleep(WRITE_EVERY).await;
            }
        };
        timeout(LOOKED_WITHIN, waiting).await.is_ok()
    }

    fn config() -> ForwarderConfig {
        ForwarderConfig {
            holder: Holder("one".into()),
            partitions: partitions(),
            lease_ttl: Duration::from_secs(5),
            log_window: Duration::ZERO,
            trim_every: Duration::ZERO,
        }
    }

    #[test]
    fn a_position_that_moves_by_itself_is_noted_seldom() {
        let ends = |last| {
            let end = End { incarnation: Incarnation("a".into()), last: Offset::new(last) };
            BTreeMap::from([(Partition::new(1), end)])
        };
        assert_eq!(checkpoint_every(&ends(7), &ends(7)), QUIET_CHECKPOINT_EVERY, "only the position may have moved");
        assert_eq!(checkpoint_every(&ends(7), &ends(8)), CHECKPOINT_EVERY);
    }

    /// As after a power loss of a server of the log.
    #[tokio::test(start_paused = true)]
    async fn a_quiet_partition_that_lost_its_records_is_renewed_while_another_is_busy() {
        let (log, full, shutdown) = (FakeLog::default(), FullPartitions::default(), CancellationToken::new());
        let (config, store) = (config(), FakeStore { partition: ONE, every: WRITE_EVERY });
        let Extent { incarnation, last, .. } = log.extent_of(TWO);
        log.publish(TWO, &incarnation, last, &[entry(TWO, 1)]).await.unwrap();
        let losing = async {
            // By then the look at the start is over.
            assert!(until(|| !log.versions(ONE).is_empty()).await);
            assert_eq!(log.extent_of(TWO).incarnation, incarnation, "nothing is lost yet");
            log.lose_all(TWO);
            let is_renewed = until(|| log.extent_of(TWO).incarnation != incarnation).await;
            assert!(is_renewed, "its readers are not told that records are missing");
            shutdown.cancel();
        };
        let (forwarded, ()) = tokio::join!(forward(&config, &store, &log, &full, &shutdown), losing);
        forwarded.unwrap();
    }
}
