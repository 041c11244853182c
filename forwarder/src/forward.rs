//! The main loop: while one batch is being published, the next one is read. A [`Pace`] spaces out small batches, since
//! each costs a publish to every partition it touches.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use metrics::gauge;
use shared::error::BackendError;
use shared::log::PartitionLog;
use shared::pace::Pace;
use shared::partition::{Partition, PartitionMap};
use shared::store::{ChangeFeed, FeedBatch, FeedEntry, FeedError, Store};
use shared::telemetry::metric::FORWARDER_POSITION_SECONDS;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::ForwarderConfig;
use crate::checkpoint::Progress;
use crate::full::FullPartitions;
use crate::lead::ForwardError;
use crate::publish::Publisher;
use crate::resume::{Start, check_ends, resume};

/// The most writes read from the feed at once: two such batches are in memory, one being read, one being published.
pub(crate) const FEED_BATCH_MAX: usize = 4_096;

/// The spacing of small batches: a write is delayed by at most 30 ms, so that others can join it, and by less where
/// publishing is quick.
const PACE: Pace = Pace::new(Duration::from_millis(1), Duration::from_millis(30), FEED_BATCH_MAX / 4);

/// How often the checkpoint is noted while batches keep coming. A crash repeats at most that much.
pub(crate) const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

/// The same while nothing is published. Where the store's positions move by themselves, noting each would only move
/// them again; no store forgets a position as recent as this.
const QUIET_CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// How often the ends of the partitions are checked while nothing is published; a publish detects a loss by itself.
pub(crate) const ENDS_CHECK_EVERY: Duration = Duration::from_secs(5);

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
    let Start { mut feed, mut checkpoint, mut progress } = started;
    let mut saved_at = Instant::now();
    let mut saved = progress.clone();
    let mut checked_at = Instant::now();
    let mut pace = PACE;
    let mut read = FeedBatch { entries: Vec::new(), reached: progress.position.clone() };
    loop {
        // The batch read last is published while the next one is read; its progress counts once it is published.
        let publishing = async {
            let began = Instant::now();
            let published = publish_batch(log, config.partitions, full, progress, read).await;
            (published, began.elapsed())
        };
        let ((published, took), next) = tokio::join!(publishing, next_batch(&mut feed, &pace, shutdown));
        pace.taken(next.as_ref().map_or(0, writes_in), took);
        progress = published?;
        let ending = next.is_none();
        if progress != saved && (ending || saved_at.elapsed() >= checkpoint_every(&saved, &progress)) {
            checkpoint.save(&progress).await?;
            saved = progress.clone();
            saved_at = Instant::now();
        }
        let Some(next) = next else {
            info!(position = %progress.position, "forwarder stops");
            return Ok(());
        };
        read = next?;
        if read.entries.is_empty() && checked_at.elapsed() >= ENDS_CHECK_EVERY {
            progress.ends = check_ends(log, config.partitions, &progress.ends).await?;
            checked_at = Instant::now();
        }
    }
}

/// How old the noted progress may become before it is noted again.
fn checkpoint_every(noted: &Progress, progress: &Progress) -> Duration {
    if noted.ends == progress.ends { QUIET_CHECKPOINT_EVERY } else { CHECKPOINT_EVERY }
}

async fn next_batch<F: ChangeFeed>(
    feed: &mut F,
    pace: &Pace,
    shutdown: &CancellationToken,
) -> Option<Result<FeedBatch, FeedError>> {
    let paced = async {
        pace.wait().await;
        feed.next_batch(FEED_BATCH_MAX).await
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        batch = paced => Some(batch),
    }
}

fn writes_in(read: &Result<FeedBatch, FeedError>) -> usize {
    read.as_ref().map_or(0, |batch| batch.entries.len())
}

async fn publish_batch<L: PartitionLog>(
    log: &L,
    partitions: PartitionMap,
    full: &FullPartitions,
    mut progress: Progress,
    batch: FeedBatch,
) -> Result<Progress, BackendError> {
    let newest = batch.entries.last().map(|entry| entry.recorded.time);
    let routed = route(partitions, batch.entries);
    let publishing = routed.iter().map(|(partition, entries)| {
        let end = progress.ends.get(partition).cloned().expect("resuming noted an end for every partition");
        Publisher::new(log, *partition, end, full).publish(entries)
    });
    for (partition, end) in try_join_all(publishing).await? {
        progress.ends.insert(partition, end);
    }
    progress.position = batch.reached;
    if let Some(newest) = newest {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; microseconds of this era fit its 53 bits")]
        gauge!(FORWARDER_POSITION_SECONDS.name).set(newest.as_micros() as f64 / 1e6);
    }
    Ok(progress)
}

/// Splits a batch by partition; each partition keeps the order of the feed.
fn route(partitions: PartitionMap, entries: Vec<FeedEntry>) -> BTreeMap<Partition, Vec<FeedEntry>> {
    let mut routed: BTreeMap<Partition, Vec<FeedEntry>> = BTreeMap::new();
    for entry in entries {
        routed.entry(partitions.partition_of(&entry.recorded.stream)).or_default().push(entry);
    }
    routed
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coordinate::{Offset, Position};
    use shared::log::Incarnation;

    use crate::checkpoint::End;

    #[test]
    fn a_position_that_moves_by_itself_is_noted_seldom() {
        let progress = |position, last| {
            let end = End { incarnation: Incarnation("a".into()), last: Offset::new(last) };
            Progress { position: Position::Number(position), ends: BTreeMap::from([(Partition::new(1), end)]) }
        };
        let noted = progress(1, 7);
        assert_eq!(checkpoint_every(&noted, &progress(2, 7)), QUIET_CHECKPOINT_EVERY);
        assert_eq!(checkpoint_every(&noted, &progress(2, 8)), CHECKPOINT_EVERY);
    }
}
