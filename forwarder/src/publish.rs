//! Publishes to one partition, stating where the publisher believes it ends.
//!
//! If the belief is wrong, there are three cases. The partition ends *later*: another forwarder is at work, or an
//! earlier publish took effect though its answer was lost; publishing after that end is a harmless repeat. It ends
//! *earlier*: records are lost, and the partition is renewed. It has *another incarnation*: it was renewed already.

use std::time::Duration;

use metrics::counter;
use shared::error::BackendError;
use shared::log::{Extent, PartitionLog, PublishError};
use shared::partition::Partition;
use shared::retry::Backoff;
use shared::store::FeedEntry;
use shared::telemetry::Seldom;
use shared::telemetry::metric::{FORWARDED_EVENTS, LOG_FULL_WAITS, PARTITIONS_RENEWED};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::checkpoint::End;
use crate::full::FullPartitions;

/// How long a publisher tries at least, unless its retries are used up before: a call to a log that does not answer
/// takes some seconds.
const TRY_FOR: Duration = Duration::from_secs(10);

/// A full partition is asked again every second, for as long as it is full.
static FULL: Seldom = Seldom::new();

/// The publisher of one partition.
pub(crate) struct Publisher<'a, L> {
    log: &'a L,
    partition: Partition,
    end: End,
    full: &'a FullPartitions,
}

/// What a publisher is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Look once where the partition ends, which finds a loss although nothing is published.
    Look,
    /// Publish all of these writes.
    Publish(Vec<FeedEntry>),
}

/// What a publisher leaves behind.
pub(crate) struct Ended {
    pub(crate) partition: Partition,
    /// Where the partition ends, as far as the publisher knows.
    pub(crate) end: End,
    /// What it was to do and why it gave up, if it did. Some or all writes may have been published nevertheless.
    pub(crate) given_up: Option<(Task, BackendError)>,
}

impl<'a, L: PartitionLog> Publisher<'a, L> {
    pub(crate) const fn new(log: &'a L, partition: Partition, end: End, full: &'a FullPartitions) -> Self {
        Self { log, partition, end, full }
    }

    /// Does its task, or gives up: a publish when the log has failed for too long, a look when it fails at all.
    pub(crate) async fn run(mut self, task: Task) -> Ended {
        let done = match &task {
            Task::Look => self.look().await,
            Task::Publish(entries) => self.keep_trying(entries).await,
        };
        let given_up = done.err().map(|failure| (task, failure));
        Ended { partition: self.partition, end: self.end, given_up }
    }

    async fn keep_trying(&mut self, entries: &[FeedEntry]) -> Result<(), BackendError> {
        let (began, mut backoff) = (Instant::now(), Backoff::default());
        loop {
            let Err(failure) = self.try_to_publish(entries).await else { return Ok(()) };
            if began.elapsed() >= TRY_FOR {
                return Err(failure);
            }
            debug!(partition = %self.partition, %failure, "publish failed, trying again");
            backoff.wait(failure).await?;
        }
    }

    /// Publishes at the end, wherever that turns out to be, as soon as there is room.
    async fn try_to_publish(&mut self, entries: &[FeedEntry]) -> Result<(), BackendError> {
        loop {
            let published = self.log.publish(self.partition, &self.end.incarnation, self.end.last, entries).await;
            match published {
                Ok(last) => {
                    self.end.last = last;
                    let events = entries.iter().map(|entry| u64::from(entry.recorded.events.count)).sum();
                    counter!(FORWARDED_EVENTS.name, "partition" => self.partition.to_string()).increment(events);
                    return Ok(());
                }
                Err(PublishError::Conflict(extent)) => self.adopt(extent).await?,
                Err(PublishError::Full { after }) => self.wait_for_room(after).await,
                Err(PublishError::Backend(failure)) => return Err(failure),
            }
        }
    }

    async fn look(&mut self) -> Result<(), BackendError> {
        let extent = self.log.extent(self.partition).await?;
        self.end = self.end_of(extent).await?;
        Ok(())
    }

    /// Believes in the end that a conflict told. A conflict at the very end that was stated is a failure: without a
    /// pause, the same publish would be refused again and again, as fast as the log answers.
    async fn adopt(&mut self, extent: Extent) -> Result<(), BackendError> {
        let end = self.end_of(extent).await?;
        if end == self.end {
            return Err(BackendError::not_done("publish", "refused, though it follows the end of the partition"));
        }
        self.end = end;
        Ok(())
    }

    /// Where a partition ends that was found like this; one that lost records is renewed.
    async fn end_of(&self, extent: Extent) -> Result<End, BackendError> {
        let extent =
            if self.end.is_lost_by(&extent) { renew(self.log, self.partition, &extent).await? } else { extent };
        Ok(extent.into())
    }

    async fn wait_for_room(&self, at_least: Duration) {
        if let Some(left_out) = FULL.due() {
            warn!(
                partition = %self.partition,
                left_out,
                "the partition is full, so the view of its accounts stands still; nothing is lost. What every balance \
                 service has read is trimmed now. If this goes on, bank_lag_events tells which of them are late: start \
                 more of them, or give the log more room",
            );
        }
        self.full.found(self.partition);
        counter!(LOG_FULL_WAITS.name, "partition" => self.partition.to_string()).increment(1);
        tokio::time::sleep(at_least).await;
    }
}

/// Begins another incarnation of a partition that lost records, if its incarnation is still the one that lost them.
pub(crate) async fn renew<L: PartitionLog>(
    log: &L,
    partition: Partition,
    extent: &Extent,
) -> Result<Extent, BackendError> {
    let renewed = log.renew(partition, &extent.incarnation).await?;
    warn!(%partition, incarnation = %renewed.incarnation, "partition renewed, its readers will synchronise");
    counter!(PARTITIONS_RENEWED.name, "partition" => partition.to_string()).increment(1);
    Ok(renewed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::retry::RETRIES_MAX;

    use crate::fake_log::{FakeLog, ONE, Trouble, entry};

    /// As of a stream of NATS that no longer takes the subject of its partition.
    #[tokio::test(start_paused = true)]
    async fn a_partition_that_refuses_what_follows_its_end_is_asked_again_after_pauses() {
        let (log, full) = (FakeLog::default(), FullPartitions::default());
        log.make(ONE, Some(Trouble::Refuses));
        let publisher = Publisher::new(&log, ONE, log.extent_of(ONE).into(), &full);
        let (task, failure) = publisher.run(Task::Publish(vec![entry(ONE, 1)])).await.given_up.unwrap();
        assert_eq!((task, failure.operation), (Task::Publish(vec![entry(ONE, 1)]), "publish"));
        assert_eq!(log.publishes(), RETRIES_MAX + 1);
    }
}
