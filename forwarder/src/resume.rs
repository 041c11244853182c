//! Decides where to start: from the checkpoint, if the store still agrees with it.
//!
//! Whether the log does is found out afterwards, for each partition by itself, since one that does not answer must not
//! keep the others from their start. A partition that ends before its noted end has lost records which some worker may
//! not have read. It is renewed: the new incarnation tells every reader that records are missing, and readers take
//! those from the store. A store that has lost the position is the same case for all partitions at once: note the head,
//! renew all partitions, continue from the head. Commits before the head are in the store when the readers synchronise,
//! and later ones come through the feed.
//!
//! A partition without a noted end is renewed too. The bank had fewer partitions when the checkpoint was noted, so what
//! was published then went elsewhere. If the partition is older than that, its log does not tell that this is missing,
//! and a reader with a checkpoint from that time would go on as if it had everything.

use std::collections::BTreeMap;

use metrics::counter;
use shared::coordinate::Position;
use shared::error::BackendError;
use shared::log::{Extent, PartitionLog};
use shared::partition::{Partition, PartitionMap};
use shared::store::{EventStore, FeedError, Store};
use shared::telemetry::metric::FORWARDER_POSITIONS_LOST;
use tracing::{info, warn};

use crate::checkpoint::{Checkpoint, CheckpointRegister, End};
use crate::lead::ForwardError;
use crate::publish::renew;

/// An open feed, and the checkpoint to continue from.
pub(crate) struct Start<S: EventStore> {
    pub(crate) feed: S::Feed,
    pub(crate) register: CheckpointRegister<S>,
    pub(crate) checkpoint: Checkpoint,
}

/// Finds where to continue.
pub(crate) async fn resume<S: Store, L: PartitionLog>(
    store: &S,
    log: &L,
    partitions: PartitionMap,
) -> Result<Start<S>, ForwardError> {
    let (register, noted) = CheckpointRegister::load(store.clone()).await?;
    if let Some(checkpoint) = noted {
        match store.feed(checkpoint.position.clone()).await {
            Ok(feed) => {
                let ends = ends_of_all(log, partitions, checkpoint.ends).await?;
                info!(position = %checkpoint.position, "forwarder resumes");
                return Ok(Start { feed, register, checkpoint: Checkpoint { ends, ..checkpoint } });
            }
            Err(FeedError::Lost(position)) => {
                warn!(%position, "the store no longer knows the forwarder's position, readers will synchronise");
                counter!(FORWARDER_POSITIONS_LOST.name).increment(1);
            }
            Err(FeedError::Backend(failure)) => return Err(failure.into()),
        }
    }
    start_at_head(store, log, partitions, register).await
}

async fn start_at_head<S: Store, L: PartitionLog>(
    store: &S,
    log: &L,
    partitions: PartitionMap,
    mut register: CheckpointRegister<S>,
) -> Result<Start<S>, ForwardError> {
    // The order matters: a commit after the head comes through the feed, one before it is in the store when a reader
    // notices the renewal.
    let position: Position = store.head().await?;
    // All are asked before any is renewed: a start that fails because one does not answer is made again and again, and
    // must not have the readers of the others synchronise each time.
    let mut extents = Vec::new();
    for partition in partitions.all() {
        extents.push((partition, log.extent(partition).await?));
    }
    let mut ends = BTreeMap::new();
    for (partition, extent) in extents {
        // From the start of an empty store everything comes through the feed, so no reader can miss anything.
        let end = if position == Position::Start { extent.into() } else { renewed(log, partition, &extent).await };
        ends.insert(partition, end);
    }
    let checkpoint = Checkpoint { position, ends, newest: None };
    register.save(&checkpoint).await?;
    let feed = store.feed(checkpoint.position.clone()).await?;
    info!(position = %checkpoint.position, "forwarder starts at the head");
    Ok(Start { feed, register, checkpoint })
}

/// The end of a partition that is renewed, now or as soon as it can be: if the start waited for one that answers but
/// takes no writes, the others would be renewed with each start.
async fn renewed<L: PartitionLog>(log: &L, partition: Partition, extent: &Extent) -> End {
    match renew(log, partition, extent).await {
        Ok(renewed) => renewed.into(),
        Err(failure) => {
            warn!(%partition, %failure, "the partition cannot be renewed yet");
            End::to_be_renewed(extent.incarnation.clone())
        }
    }
}

/// The noted end of each partition; one that has none is to be renewed.
async fn ends_of_all<L: PartitionLog>(
    log: &L,
    partitions: PartitionMap,
    mut noted: BTreeMap<Partition, End>,
) -> Result<BTreeMap<Partition, End>, BackendError> {
    let mut ends = BTreeMap::new();
    for partition in partitions.all() {
        let end = match noted.remove(&partition) {
            Some(end) => end,
            None => End::to_be_renewed(log.extent(partition).await?.incarnation),
        };
        ends.insert(partition, end);
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use shared::id::{AccountId, CommitId};
    use shared::sqlite::DataFolder;
    use shared::store::EmbeddedStore;
    use shared::store::contract::plain_commit;

    use crate::fake_log::{FakeLog, ONE, TWO, Trouble, partitions};

    /// One in which a forwarder starts at a head that is not the start.
    async fn store_with_a_commit(folder: &Path) -> EmbeddedStore {
        let store = EmbeddedStore::open(&DataFolder::open(folder).unwrap()).unwrap();
        let commit = plain_commit(CommitId::from_bytes([1; 16]), &[(AccountId::from_bytes([1; 16]), 0)]);
        store.append(vec![commit]).await.remove(0).unwrap();
        store
    }

    #[tokio::test]
    async fn a_partition_that_does_not_answer_keeps_a_forwarder_from_its_first_start_alone() {
        let (folder, log) = (tempfile::tempdir().unwrap(), FakeLog::default());
        let store = store_with_a_commit(folder.path()).await;
        let lives = || [ONE, TWO].map(|partition| log.extent_of(partition).incarnation);
        let at_first = lives();

        log.make(TWO, Some(Trouble::Fails));
        assert!(resume(&store, &log, partitions()).await.is_err(), "nobody knows where it ends");
        assert_eq!(lives(), at_first, "and none is renewed for nothing");
        log.make(TWO, None);
        let begun = resume(&store, &log, partitions()).await.unwrap().checkpoint;
        assert!(lives().iter().zip(&at_first).all(|(now, before)| now != before), "who starts at a head renews all");

        log.make(TWO, Some(Trouble::Fails));
        assert_eq!(resume(&store, &log, partitions()).await.unwrap().checkpoint, begun);
    }

    /// As of a bank that had two partitions, then one, and has two again, while a stream of the log was left over.
    #[tokio::test]
    async fn a_partition_that_the_last_forwarder_did_not_have_is_renewed() {
        let (folder, log) = (tempfile::tempdir().unwrap(), FakeLog::default());
        let store = store_with_a_commit(folder.path()).await;
        let left_over = log.extent_of(TWO);
        let noted = resume(&store, &log, PartitionMap::new(1).unwrap()).await.unwrap().checkpoint;
        assert_eq!(noted.ends.keys().collect::<Vec<_>>(), [&ONE]);
        let resumed = resume(&store, &log, partitions()).await.unwrap().checkpoint;
        assert_eq!(resumed.ends[&ONE], noted.ends[&ONE]);
        assert!(resumed.ends[&TWO].is_lost_by(&left_over), "whoever looks renews it");
    }

    #[tokio::test]
    async fn a_partition_that_cannot_be_renewed_does_not_keep_the_others_waiting() {
        let (folder, log) = (tempfile::tempdir().unwrap(), FakeLog::default());
        let store = store_with_a_commit(folder.path()).await;
        let before = log.extent_of(TWO);
        log.make(TWO, Some(Trouble::Sealed));
        let begun = resume(&store, &log, partitions()).await.unwrap().checkpoint;
        assert_eq!(begun.ends[&ONE], log.extent_of(ONE).into());
        assert!(begun.ends[&TWO].is_lost_by(&before), "whoever looks renews it");
    }
}
