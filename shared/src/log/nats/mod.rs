//! The log in NATS JetStream: one stream per partition, so that any NATS client can follow along.
//!
//! A stream has two subjects. `balance.<N>` holds the records, one or more per message: all writes of a publish go into
//! one message, as far as they fit ([`super::body`]), because a message costs far more than a write in it (ADR 11).
//! `balance.<N>.incarnation` holds the *beginning* of the current incarnation: a message that names it.
//!
//! N1  Within an incarnation the messages of records follow each other without a gap, in sequences and in offsets. The
//!     headers of each name its incarnation, the offset of its first record and how many it holds; its publisher
//!     believed the offset before that to be the last, and was right (N2). So offsets are dense (law L1), and the
//!     headers of the last message tell where the incarnation ends.
//! N2  Every publish carries the sequence it expects to be the last, and the server compares it when it writes.
//!     Sequences are never reused, so a publisher that believes in an earlier incarnation, or in another end of this
//!     one, expects a sequence the stream has passed and writes nothing (law L3). Before it publishes after an end that
//!     it has not seen itself, this log asks the server for the end. A beginning expects only the last *beginning*, so
//!     of two concurrent renewals one succeeds, and a publisher that never pauses cannot hold one up: what it stores
//!     until then belongs to the incarnation that ends.
//! N3  A message is stored whole or not at all. A batch that does not fit into one is published message by message,
//!     each acknowledged before the next is sent, so what is stored of a batch is a prefix of it. A partly stored batch
//!     is reported as full or as a conflict; publishing it again adds the rest, or is a repeat.
//! N4  A reader checks each message: one that is not the next by sequence and offset, or that does not name the
//!     reader's incarnation, is never yielded. The cause is a renewal, a trim, a loss, or a message that the connection
//!     dropped; the extent tells which (law L4).
//! N5  A hole or a foreign message *inside* an incarnation cannot be filled or passed. A reader finds one on its way;
//!     at either end of the incarnation, a call for the extent does. The finder renews the partition, so that all
//!     readers notice and what was in the hole is read from the store.
//! N6  Trimming removes whole messages, and never the last one: only that tells where the incarnation ends.
//!
//! What the server may lose. It fsyncs only from time to time, so a crash of its machine can lose the newest messages.
//! The partition then ends earlier; its publisher sees that and renews it. One case escapes the sequences: if a loss, a
//! renewal by one forwarder and a publish by another that has not noticed coincide so that the numbers agree, a message
//! of the lost incarnation is accepted. Its readers detect it by the incarnation it names, or by an offset that is not
//! the next one (N4, N5).
//!
//! Messages have no id (`Nats-Msg-Id`), so none counts as a duplicate: a write is published again after a loss.
//!
//! A stream that was deleted by hand is created again, and a stream that was emptied by hand begins a new incarnation,
//! as soon as its extent is asked for.

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

/// How long a publisher waits before it tries a full partition again.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// How many servers of a cluster store a partition, so that one of them may fail.
const CLUSTER_REPLICAS: u8 = 3;

/// The log of a bank in NATS. Clones share one connection, which reconnects by itself.
#[derive(Clone)]
pub struct NatsLog(Arc<Shared>);

struct Shared {
    jetstream: Context,
    partitions: PartitionMap,
    /// How many servers store a newly created stream.
    replicas: u8,
    names: Box<[Names]>,
    /// The incarnation and end last seen of each partition, so that a publish need not ask for them.
    lives: Mutex<BTreeMap<Partition, Known>>,
    ids: Ids,
}

impl fmt::Debug for NatsLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLog").field("partitions", &self.0.partitions).finish_non_exhaustive()
    }
}

/// The names of a partition in NATS.
#[derive(Clone, Debug)]
struct Names {
    partition: Partition,
    stream: String,
    /// Where its records are published.
    records: String,
    /// Where its incarnations begin.
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
    /// Opens the log of a namespace, and creates the streams that are missing. `ids` names incarnations.
    ///
    /// # Errors
    /// [`NatsOpenError`] says what is wrong and how to fix it.
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
