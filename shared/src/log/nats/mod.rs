//! The log in NATS JetStream: a stream for each partition, so that any client of NATS can follow along.
//!
//! A stream holds two subjects. On `balance.<N>` lie the records, one a write. On `balance.<N>.incarnation` lies the
//! *beginning* of the present life: a message that names it. The sequence of the beginning is the base of the life, and
//! the offset of a record is its sequence minus the base.
//!
//! N1  Offsets are dense (law L1) because within a life every message of the stream is a record: whatever is published
//!     takes the next sequence, and nothing else takes one.
//! N2  Every publish carries the sequence it expects to be the last, and the server compares it when it writes. To
//!     begin another life is such a publish too. Sequences never return, so whoever believes in an earlier life, or in
//!     another end of this one, expects a sequence the stream has passed and writes nothing (law L3); and of two who
//!     renew at the same time one succeeds.
//! N3  The messages of a batch are a chain: each names the sequence it expects to be the last, and each but the first
//!     the id of the message in front of it, which names write and place. So what is stored of a batch is a prefix of
//!     it, also when a message is lost on the way or another publisher comes between; only the last of a part of
//!     [`write::BATCH_MAX`] is answered, for all before it. A batch that is stored by half is told as full or
//!     as a conflict; publishing it again adds the rest, or is a repeat. (Why not the server's own atomic batches: each
//!     costs it a store of files, ADR 9.)
//! N4  A reader looks at each message: one whose sequence is not the next one, or that does not name the reader's
//!     life, is never yielded. Behind it lies a renewal, a trim, a loss, or a message the connection dropped;
//!     the extent tells which (law L4).
//! N5  A hole or a foreign message *inside* a life cannot be filled or passed. Whoever finds one renews the partition,
//!     so that it is noticed by all and the store fills what was in it.
//!
//! What the server may lose. It fsyncs from time to time, so the death of its machine can cost the newest records. The
//! partition then ends earlier, its publisher sees that and renews it. The one thing a sequence cannot tell: if a loss,
//! a renewal by one forwarder and a publish by another that has not noticed fall together so that the numbers agree,
//! a record of the lost life is accepted. Its readers find it by the life it names (N4, N5).
//!
//! The server's own de-duplication would make holes in N1 when a write is published again, as it has to be after a
//! loss. Therefore the id of a message (`Nats-Msg-Id`) names its place as well as its write, and never repeats.
//!
//! A stream somebody deletes is made again, and a stream somebody empties begins another life, as soon as anybody asks
//! for its extent.

mod connect;
mod durability;
mod failure;
mod life;
mod open;
mod reader;
mod record;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::Context;

pub use self::connect::{NatsOptions, connect};
use self::failure::within;
use self::life::Beginning;
pub use self::open::NatsOpenError;
pub use self::reader::NatsReader;
use super::{Extent, Incarnation, PartitionLog, PublishError, ReadError};
use crate::clock::Timestamp;
use crate::config::Namespace;
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::id::Ids;
use crate::partition::{Partition, PartitionMap};
use crate::store::FeedEntry;

/// How long a publisher leaves a full partition alone.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// How many servers of a cluster keep a partition, so that one of them may die.
const CLUSTER_REPLICAS: u8 = 3;

/// How many records are purged in one call, so that none takes longer than a call may.
const TRIMMED_AT_ONCE: u64 = 100_000;

/// The log of a bank in NATS. Clones share one connection, which comes back by itself.
#[derive(Clone)]
pub struct NatsLog(Arc<Shared>);

struct Shared {
    jetstream: Context,
    partitions: PartitionMap,
    /// How many servers keep a stream that is made.
    replicas: u8,
    names: Box<[Names]>,
    /// The lives last seen, one for each partition, so that a publish need not ask.
    lives: Mutex<BTreeMap<Partition, Beginning>>,
    ids: Ids,
}

impl fmt::Debug for NatsLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLog").field("partitions", &self.0.partitions).finish_non_exhaustive()
    }
}

/// What a partition is called in NATS.
#[derive(Clone, Debug)]
struct Names {
    partition: Partition,
    stream: String,
    /// Where its records are published.
    records: String,
    /// Where its lives begin.
    beginnings: String,
}

impl Names {
    fn of(namespace: &Namespace, partition: Partition) -> Self {
        let number = partition.get();
        let prefix = if namespace.as_str() == Namespace::DEFAULT { String::new() } else { format!("{namespace}.") };
        Self {
            partition,
            stream: format!("{}-{number}", namespace.balance_alias()),
            records: format!("{prefix}balance.{number}"),
            beginnings: format!("{prefix}balance.{number}.incarnation"),
        }
    }
}

impl NatsLog {
    /// Opens the log of a namespace, and makes the streams that are missing. `ids` names lives.
    ///
    /// # Errors
    /// [`NatsOpenError`] says what stands in the way and how to get past it.
    pub async fn open(
        options: NatsOptions<'_>,
        namespace: &Namespace,
        partitions: PartitionMap,
        ids: Ids,
    ) -> Result<Self, NatsOpenError> {
        let jetstream = connect::connect(&options).await?;
        let is_cluster = durability::is_cluster(&jetstream);
        let replicas = options.replicas.unwrap_or(if is_cluster { CLUSTER_REPLICAS } else { 1 });
        let names = partitions.all().map(|partition| Names::of(namespace, partition)).collect();
        let log = Self(Arc::new(Shared { jetstream, partitions, replicas, names, lives: Mutex::default(), ids }));
        open::streams(&log.0).await?;
        Ok(log)
    }
}

impl Shared {
    fn names(&self, operation: &'static str, partition: Partition) -> Result<&Names, BackendError> {
        let index = usize::from(partition.get()).checked_sub(1);
        let names = index.and_then(|index| self.names.get(index));
        names.ok_or_else(|| BackendError::broken(operation, format!("the log has no partition {partition}")))
    }
}

impl PartitionLog for NatsLog {
    type Reader = NatsReader;

    async fn extent(&self, partition: Partition) -> Result<Extent, BackendError> {
        Ok(self.0.life("extent", self.0.names("extent", partition)?).await?.extent())
    }

    async fn publish(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        let names = self.0.names("publish", partition)?;
        self.0.publish(names, incarnation, after, batch).await
    }

    async fn reader(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
    ) -> Result<NatsReader, ReadError> {
        let names = self.0.names("reader", partition)?.clone();
        NatsReader::open(Arc::clone(&self.0), names, incarnation, after).await
    }

    async fn trim(&self, partition: Partition, through: Offset, before: Timestamp) -> Result<u64, BackendError> {
        let names = self.0.names("trim", partition)?;
        let life = self.0.life("trim", names).await?;
        let end = self.0.forgettable(names, &life, through.min(life.last), before).await?;
        let mut forgotten = 0;
        let mut reached = life.trimmed;
        while reached < end {
            reached = end.min(Offset::new(reached.get() + TRIMMED_AT_ONCE));
            forgotten += self.0.purge(names, life.sequence(reached)).await?;
        }
        Ok(forgotten)
    }

    async fn renew(&self, partition: Partition, incarnation: &Incarnation) -> Result<Extent, BackendError> {
        let names = self.0.names("renew", partition)?;
        Ok(self.0.renew(names, incarnation).await?.extent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_namespace_has_the_plain_names() {
        let names = Names::of(&Namespace::DEFAULT.parse().unwrap(), Partition::new(3));
        assert_eq!((&*names.stream, &*names.records), ("balance-3", "balance.3"));
        let names = Names::of(&"test".parse().unwrap(), Partition::new(3));
        assert_eq!((&*names.stream, &*names.records), ("test-balance-3", "test.balance.3"));
    }
}
