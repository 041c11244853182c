//! The log in NATS JetStream: a stream for each partition, so that any client of NATS can follow along.
//!
//! A stream holds two subjects. On `balance.<N>` lie the records, as messages of one or more: all writes of a publish
//! go in one, as far as they fit ([`super::body`]), because a message costs far more than a write in it (ADR 11).
//! On `balance.<N>.incarnation` lies the *beginning* of the present life: a message that names it.
//!
//! N1  Within a life the messages of records follow each other without a gap, in sequences and in offsets: each says in
//!     its headers which life it belongs to, the offset of its first record and how many it holds; its publisher
//!     believed the offset in front of that to be the last, and was right (N2). So offsets are dense (law L1), and the
//!     headers of the last message tell where the life ends.
//! N2  Every publish carries the sequence it expects to be the last, and the server compares it when it writes. To
//!     begin another life is such a publish too. Sequences never return, so whoever believes in an earlier life, or in
//!     another end of this one, expects a sequence the stream has passed and writes nothing (law L3); and of two who
//!     renew at the same time one succeeds. An end this log has not seen itself is asked for before it is published
//!     behind.
//! N3  A message is stored whole or not at all. A batch that does not fit into one is published message by message, and
//!     each is answered before the next one goes. So what is stored of a batch is a prefix of it. A batch that is
//!     stored by half is told as full or as a conflict; publishing it again adds the rest, or is a repeat.
//! N4  A reader looks at each message: one that is not the next one by sequence and offset, or that does not name the
//!     reader's life, is never yielded. Behind it lies a renewal, a trim, a loss, or a message the connection dropped;
//!     the extent tells which (law L4).
//! N5  A hole or a foreign message *inside* a life cannot be filled or passed. Whoever finds one renews the partition,
//!     so that it is noticed by all and the store fills what was in it: a reader on its way, and whoever asks for the
//!     extent when there is one at either end of the life.
//! N6  Trimming forgets whole messages, and never the last one: without it nobody could tell where the life ends.
//!
//! What the server may lose. It fsyncs from time to time, so the death of its machine can cost the newest messages. The
//! partition then ends earlier, its publisher sees that and renews it. The one thing a sequence cannot tell: if a loss,
//! a renewal by one forwarder and a publish by another that has not noticed fall together so that the numbers agree,
//! a message of the lost life is accepted. Its readers find it by the life it names, or by an offset that is not the
//! next one (N4, N5).
//!
//! Messages have no id (`Nats-Msg-Id`), so the server takes none for a repeat: a write is published again after a loss.
//!
//! A stream somebody deletes is made again, and a stream somebody empties begins another life, as soon as anybody asks
//! for its extent.

mod connect;
mod durability;
mod failure;
mod find;
mod life;
mod message;
mod open;
mod reader;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::Context;

pub use self::connect::{NatsOptions, connect};
use self::failure::within;
use self::life::Known;
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

/// The log of a bank in NATS. Clones share one connection, which comes back by itself.
#[derive(Clone)]
pub struct NatsLog(Arc<Shared>);

struct Shared {
    jetstream: Context,
    partitions: PartitionMap,
    /// How many servers keep a stream that is made.
    replicas: u8,
    names: Box<[Names]>,
    /// The lives last seen and their ends, one for each partition, so that a publish need not ask.
    lives: Mutex<BTreeMap<Partition, Known>>,
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
        self.0.trim(names, through, before).await
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
