use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::partition::Partition;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The partitions that their publishers have found full. Trimming is woken at once, since nothing is forwarded to them
/// until there is room.
#[derive(Debug, Default)]
pub(crate) struct FullPartitions {
    found: Mutex<BTreeSet<Partition>>,
    changed: Notify,
}

impl FullPartitions {
    /// A publisher has found this partition full.
    pub(crate) fn found(&self, partition: Partition) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(partition);
        self.changed.notify_one();
    }

    /// Waits at most this long until a partition is found full; returns those found since the last call.
    pub(crate) async fn wait(&self, at_most: Duration) -> BTreeSet<Partition> {
        // The set tells whether one was found or the time ran out.
        _ = timeout(at_most, self.changed.notified()).await;
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_at_once_and_once() {
        let full = FullPartitions::default();
        let began = tokio::time::Instant::now();
        let (found, ()) = tokio::join!(full.wait(LONG), async { full.found(Partition::new(3)) });
        assert_eq!((found, began.elapsed()), (BTreeSet::from([Partition::new(3)]), Duration::ZERO));
        full.found(Partition::new(1));
        assert_eq!(full.wait(LONG).await, BTreeSet::from([Partition::new(1)]), "found before anybody waited");
        assert_eq!(full.wait(LONG).await, BTreeSet::new());
        assert_eq!(began.elapsed(), LONG);
    }
}
