use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{OrderedConfig, OrderedError};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;
use tracing::warn;

use super::failure::CALL_MAX;
use super::life::Life;
use super::record::{self, INCARNATION, NoRecord, header};
use super::{Names, Shared};
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::log::{Incarnation, PartitionReader, ReadError, Record};

/// How long a reader without news waits before it looks whether its partition still is what it was.
const IDLE_MAX: Duration = Duration::from_secs(1);

type Incoming = BoxStream<'static, Result<Message, OrderedError>>;

/// Reads on as the server delivers. Its place is its own: the server only knows where it began.
pub struct NatsReader {
    shared: Arc<Shared>,
    names: Names,
    life: Life,
    after: Offset,
    /// Nothing when what comes in is to be opened again after the place.
    incoming: Option<Incoming>,
    /// Whether what came in was wrong before, and nothing right has come since.
    reopened: bool,
}

impl fmt::Debug for NatsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsReader")
            .field("stream", &self.names.stream)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl NatsReader {
    pub(super) async fn open(
        shared: Arc<Shared>,
        names: Names,
        incarnation: &Incarnation,
        after: Offset,
    ) -> Result<Self, ReadError> {
        let life = shared.life("reader", &names).await?;
        if !life.continues(incarnation, after) {
            return Err(ReadError::Moved(life.extent()));
        }
        let mut reader = Self { shared, names, life, after, incoming: None, reopened: false };
        reader.incoming = Some(reader.incoming().await?);
        Ok(reader)
    }

    async fn incoming(&mut self) -> Result<Incoming, BackendError> {
        let stream = self.shared.stream("next_batch", &self.names).await?;
        let start_sequence = self.life.sequence(self.after.next());
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ..OrderedConfig::default()
        };
        let opened = async {
            let consumer =
                stream.create_consumer(config).await.map_err(|error| BackendError::not_done("next_batch", error))?;
            consumer.messages().await.map_err(|error| BackendError::not_done("next_batch", error))
        };
        match timeout(CALL_MAX, opened).await {
            Ok(messages) => Ok(messages?.boxed()),
            Err(elapsed) => Err(BackendError::not_done("next_batch", elapsed)),
        }
    }

    /// Where the partition stands, if it still continues from the reader's place.
    async fn look(&mut self) -> Result<Life, ReadError> {
        let now = self.shared.life("next_batch", &self.names).await?;
        let continues = now.continues(&self.life.beginning.incarnation, self.after);
        if continues { Ok(now) } else { Err(ReadError::Moved(now.extent())) }
    }

    /// The record of a message, if it is the next one.
    fn next_record(&self, message: &Message) -> Result<Record, Stray> {
        let sequence = message.info().map_err(|_| Stray::NoRecord(NoRecord::Header("reply")))?.stream_sequence;
        let offset = self.after.next();
        if sequence != self.life.sequence(offset) {
            return Err(Stray::Hole);
        }
        let headers = message.headers.as_ref().ok_or(NoRecord::Header(INCARNATION))?;
        if *header(headers, INCARNATION)? != *self.life.beginning.incarnation.0 {
            return Err(Stray::OtherLife);
        }
        Ok(Record { offset, recorded: record::recorded(headers, &message.payload)? })
    }

    /// The next record, waited for; nothing after a quiet while.
    async fn first(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            let incoming = match self.incoming.take() {
                Some(incoming) => incoming,
                None => self.incoming().await?,
            };
            let Ok(next) = timeout(IDLE_MAX, self.incoming.insert(incoming).next()).await else {
                // What is there and was not delivered is asked for again.
                if self.look().await?.last > self.after {
                    self.incoming = None;
                }
                return Ok(None);
            };
            match self.taken(next)? {
                Ok(record) => return Ok(Some(record)),
                Err(stray) => self.astray(stray).await?,
            }
        }
    }

    /// The next record, if it is here already.
    fn at_hand(&mut self) -> Option<Record> {
        let next = tokio::task::unconstrained(self.incoming.as_mut()?.next()).now_or_never()?;
        if let Ok(Ok(record)) = self.taken(next) {
            return Some(record);
        }
        // Whatever it was is asked for again, and dealt with then.
        self.incoming = None;
        None
    }

    /// Moves the place behind what came in, if that is the next record.
    fn taken(&mut self, next: Option<Result<Message, OrderedError>>) -> Result<Result<Record, Stray>, BackendError> {
        let failed = match next {
            Some(Ok(message)) => {
                let record = self.next_record(&message);
                if let Ok(record) = &record {
                    self.after = record.offset;
                    self.reopened = false;
                }
                return Ok(record);
            }
            Some(Err(error)) => BackendError::not_done("next_batch", error),
            None => BackendError::not_done("next_batch", "the server ended the delivery"),
        };
        self.incoming = None;
        Err(failed)
    }

    /// What is to be done about a message that is not the next record: the partition has moved, or the connection
    /// dropped something and what follows the place is asked for again, or the life has a hole and ends (law N5).
    async fn astray(&mut self, stray: Stray) -> Result<(), ReadError> {
        self.incoming = None;
        let now = self.look().await?;
        if !self.reopened {
            self.reopened = true;
            return Ok(());
        }
        warn!(stream = self.names.stream, after = %self.after, reason = %stray, "a life has a hole, so it ends");
        let renewed = self.shared.renew(&self.names, &now.beginning.incarnation).await?;
        Err(ReadError::Moved(renewed.extent()))
    }
}

/// Why a message is not the next record.
#[derive(Debug, thiserror::Error)]
enum Stray {
    #[error("another record follows than the next one")]
    Hole,
    #[error("the next record belongs to another life")]
    OtherLife,
    #[error("the next message is no record: {0}")]
    NoRecord(#[from] NoRecord),
}

impl PartitionReader for NatsReader {
    async fn next_batch(&mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        if limit > 0 {
            records.extend(self.first().await?);
        }
        // Nothing is awaited once a record was taken, so a dropped call loses none.
        while !records.is_empty() && records.len() < limit {
            let Some(record) = self.at_hand() else { break };
            records.push(record);
        }
        Ok(records)
    }
}
