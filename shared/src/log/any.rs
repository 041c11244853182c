//! The log selected by the settings.

use super::embedded::EmbeddedReader;
#[cfg(feature = "nats")]
use super::nats::{NatsLog, NatsReader};
use super::{EmbeddedLog, Extent, Incarnation, PartitionLog, PartitionReader, PublishError, ReadError, Record};
use crate::clock::Timestamp;
use crate::coordinate::Offset;
use crate::durability::Weakness;
use crate::error::BackendError;
use crate::partition::Partition;
use crate::store::FeedEntry;

/// One of the backends of this port.
#[derive(Clone, Debug)]
pub enum AnyLog {
    /// A file of the data folder.
    Embedded(EmbeddedLog),
    /// JetStream streams of a NATS server.
    #[cfg(feature = "nats")]
    Nats(NatsLog),
}

/// A reader of one of the backends.
pub enum AnyReader {
    /// Of a file of the data folder.
    Embedded(EmbeddedReader),
    /// Of a NATS server.
    #[cfg(feature = "nats")]
    Nats(NatsReader),
}

macro_rules! each {
    ($any:expr, $backend:ident => $call:expr) => {
        match $any {
            Self::Embedded($backend) => $call,
            #[cfg(feature = "nats")]
            Self::Nats($backend) => $call,
        }
    };
}

impl AnyLog {
    /// Server settings that promise less than a bank needs; the settings of the embedded file are our own.
    pub async fn weaknesses(&self) -> Vec<Weakness> {
        match self {
            Self::Embedded(_) => Vec::new(),
            #[cfg(feature = "nats")]
            Self::Nats(log) => log.weaknesses().await,
        }
    }
}

impl PartitionReader for AnyReader {
    async fn next_batch(&mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
        each!(self, reader => reader.next_batch(limit).await)
    }
}

impl PartitionLog for AnyLog {
    type Reader = AnyReader;

    async fn extent(&self, partition: Partition) -> Result<Extent, BackendError> {
        each!(self, log => log.extent(partition).await)
    }

    async fn publish(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        each!(self, log => log.publish(partition, incarnation, after, batch).await)
    }

    async fn reader(
        &self,
        partition: Partition,
        incarnation: &Incarnation,
        after: Offset,
    ) -> Result<AnyReader, ReadError> {
        match self {
            Self::Embedded(log) => log.reader(partition, incarnation, after).await.map(AnyReader::Embedded),
            #[cfg(feature = "nats")]
            Self::Nats(log) => log.reader(partition, incarnation, after).await.map(AnyReader::Nats),
        }
    }

    async fn trim(&self, partition: Partition, through: Offset, before: Timestamp) -> Result<u64, BackendError> {
        each!(self, log => log.trim(partition, through, before).await)
    }

    async fn renew(&self, partition: Partition, incarnation: &Incarnation) -> Result<Extent, BackendError> {
        each!(self, log => log.renew(partition, incarnation).await)
    }
}
