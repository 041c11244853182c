//! Publishes to one partition, stating where the publisher believes it ends.
//!
//! If the belief is wrong, there are three cases. The partition ends *later*: another forwarder is at work, or an
//! earlier publish took effect though its answer was lost; publishing after that end is a harmless repeat. It ends
//! *earlier*: records are lost, and the partition is renewed. It has *another incarnation*: it was renewed already.

use metrics::counter;
use shared::coordinate::Offset;
use shared::error::BackendError;
use shared::log::{Extent, PartitionLog, PublishError};
use shared::partition::Partition;
use shared::retry::Backoff;
use shared::store::FeedEntry;
use shared::telemetry::metric::{FORWARDED_EVENTS, LOG_FULL_WAITS, PARTITIONS_RENEWED};
use tracing::{debug, warn};

use crate::checkpoint::End;
use crate::full::FullPartitions;

/// The publisher of one partition.
pub(crate) struct Publisher<'a, L> {
    log: &'a L,
    partition: Partition,
    end: End,
    full: &'a FullPartitions,
}

impl<'a, L: PartitionLog> Publisher<'a, L> {
    pub(crate) const fn new(log: &'a L, partition: Partition, end: End, full: &'a FullPartitions) -> Self {
        Self { log, partition, end, full }
    }

    /// Publishes all entries and returns the new end of the partition.
    pub(crate) async fn publish(mut self, entries: &[FeedEntry]) -> Result<(Partition, End), BackendError> {
        let mut backoff = Backoff::default();
        loop {
            let published = self.log.publish(self.partition, &self.end.incarnation, self.end.last, entries).await;
            match published {
                Ok(last) => return Ok((self.partition, self.ended_at(last, entries))),
                Err(PublishError::Conflict(extent)) => self.adopt(extent).await?,
                Err(PublishError::Full { after }) => {
                    warn!(
                        partition = %self.partition,
                        "the partition is full, so the view of its accounts stands still; nothing is lost. What every \
                         balance service has read is trimmed now. If this goes on, bank_lag_events tells which of them \
                         are late: start more of them, or give the log more room",
                    );
                    self.full.found(self.partition);
                    counter!(LOG_FULL_WAITS.name, "partition" => self.partition.to_string()).increment(1);
                    tokio::time::sleep(after).await;
                }
                Err(PublishError::Backend(failure)) => {
                    debug!(partition = %self.partition, %failure, "publish failed, trying again");
                    backoff.wait(failure).await?;
                }
            }
        }
    }

    fn ended_at(self, last: Offset, entries: &[FeedEntry]) -> End {
        let events = entries.iter().map(|entry| u64::from(entry.recorded.events.count)).sum();
        counter!(FORWARDED_EVENTS.name, "partition" => self.partition.to_string()).increment(events);
        End { incarnation: self.end.incarnation, last }
    }

    async fn adopt(&mut self, extent: Extent) -> Result<(), BackendError> {
        let extent =
            if self.end.is_lost_by(&extent) { renew(self.log, self.partition, &extent).await? } else { extent };
        self.end = extent.into();
        Ok(())
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
