//! Reads a partition from its stream of NATS.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, vec};

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{OrderedConfig, OrderedError};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;
use tracing::warn;

use super::failure::CALL_MAX;
use super::find::Place;
use super::life::Life;
use super::message::{self, INCARNATION, NoRecord, header};
use super::{Names, Shared};
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::log::{Incarnation, PartitionReader, ReadError, Record, body};

/// How long a reader waits for news before it checks whether its partition is still what it was.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// How many messages are requested at once, and again when half of them have arrived. At 160 KiB each a reader holds at
/// most 4 MiB in memory, and the readers of sixteen partitions stay within the 64 MiB (`max_pending`) that a server
/// buffers for a connection before it closes it.
const MESSAGES_AT_ONCE: i64 = 16;

type Incoming = BoxStream<'static, Result<Message, OrderedError>>;

/// Reads messages as the server delivers them. It tracks its own place: the server only knows where it began.
pub struct NatsReader {
    shared: Arc<Shared>,
    names: Names,
    /// As it was when the reader was opened.
    life: Life,
    /// Which message is taken next.
    place: Place,
    /// The last record taken, or the one to start after: the first message may hold earlier records.
    after: Offset,
    /// Records taken but not yet yielded.
    held: vec::IntoIter<Record>,
    /// `None` if delivery must be opened again at the place.
    incoming: Option<Incoming>,
    /// Whether delivery went wrong before, and no right message has come since.
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
        let place = shared.place("reader", &names, &life, after).await?;
        let held = Vec::new().into_iter();
        let mut reader = Self { shared, names, life, place, after, held, incoming: None, reopened: false };
        reader.incoming = Some(reader.open_delivery().await?);
        Ok(reader)
    }

    /// Has the server deliver from the place on.
    async fn open_delivery(&mut self) -> Result<Incoming, BackendError> {
        let stream = self.shared.stream("next_batch", &self.names).await?;
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.place.sequence },
            max_batch: MESSAGES_AT_ONCE,
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

    /// Whether there is more after the place, if the partition still continues from there.
    async fn look(&mut self) -> Result<bool, ReadError> {
        let stream = self.shared.info("next_batch", &self.names).await?;
        if stream.is_some_and(|stream| self.life.ends_at(self.place.sequence - 1, &stream)) {
            return Ok(false);
        }
        let now = self.shared.life("next_batch", &self.names).await?;
        if !now.continues(&self.life.known.incarnation, self.after) {
            return Err(ReadError::Moved(now.extent()));
        }
        Ok(now.known.end.last > self.after)
    }

    /// Takes the records of a message, if it is the next one (law N4).
    fn take(&mut self, message: &Message) -> Result<(), Stray> {
        let sequence = message.info().map_err(|_| Stray::NoRecord(NoRecord::Header("reply")))?.stream_sequence;
        let headers = message.headers.as_ref().ok_or(NoRecord::Header(INCARNATION))?;
        if *header(headers, INCARNATION)? != *self.life.known.incarnation.0 {
            return Err(Stray::OtherLife);
        }
        let span = message::span(headers)?;
        if sequence != self.place.sequence || span.first != self.place.first {
            return Err(Stray::Hole);
        }
        let offsets = (span.first.get()..).map(Offset::new);
        let writes = body::read(&message.payload, span.records()).map_err(NoRecord::from)?;
        let records = offsets.zip(writes).map(|(offset, recorded)| Record { offset, recorded });
        // Whatever was held before has been yielded.
        self.held = records.filter(|record| record.offset > self.after).collect::<Vec<_>>().into_iter();
        self.place = Place { sequence: sequence + 1, first: span.last.next() };
        self.after = self.after.max(span.last);
        self.reopened = false;
        Ok(())
    }

    /// Waits for records to hold, but only until [`IDLE_MAX`] has passed without news.
    async fn wait(&mut self) -> Result<(), ReadError> {
        while self.held.len() == 0 {
            let incoming = match self.incoming.take() {
                Some(incoming) => incoming,
                None => self.open_delivery().await?,
            };
            let Ok(next) = timeout(IDLE_MAX, self.incoming.insert(incoming).next()).await else {
                // Messages that exist but were not delivered are requested again.
                if self.look().await? {
                    self.incoming = None;
                }
                return Ok(());
            };
            if let Err(stray) = self.taken(next)? {
                self.astray(stray).await?;
            }
        }
        Ok(())
    }

    /// Takes the next message, if it has already arrived.
    fn is_more_at_hand(&mut self) -> bool {
        let Some(incoming) = self.incoming.as_mut() else { return false };
        let Some(next) = tokio::task::unconstrained(incoming.next()).now_or_never() else { return false };
        let is_taken = matches!(self.taken(next), Ok(Ok(())));
        if !is_taken {
            // Whatever it was is requested again, and handled then.
            self.incoming = None;
        }
        is_taken
    }

    /// Takes what was delivered.
    fn taken(&mut self, next: Option<Result<Message, OrderedError>>) -> Result<Result<(), Stray>, BackendError> {
        let failed = match next {
            Some(Ok(message)) => return Ok(self.take(&message)),
            Some(Err(error)) => BackendError::not_done("next_batch", error),
            None => BackendError::not_done("next_batch", "the server stopped delivering messages"),
        };
        self.incoming = None;
        Err(failed)
    }

    /// Handles a message that is not the next one: the partition has moved; or the connection dropped something, and
    /// delivery resumes from the place; or the incarnation has a hole and ends (law N5).
    async fn astray(&mut self, stray: Stray) -> Result<(), ReadError> {
        self.incoming = None;
        self.look().await?;
        if !self.reopened {
            self.reopened = true;
            return Ok(());
        }
        warn!(stream = self.names.stream, after = %self.after, reason = %stray, "gap in the records, renewing");
        let renewed = self.shared.renew(&self.names, &self.life.known.incarnation).await?;
        Err(ReadError::Moved(renewed.extent()))
    }
}

/// Why a message is not the next one.
#[derive(Debug, thiserror::Error)]
enum Stray {
    #[error("the next message is missing")]
    Hole,
    #[error("the next message belongs to another incarnation")]
    OtherLife,
    #[error("the next message holds no records: {0}")]
    NoRecord(#[from] NoRecord),
}

impl PartitionReader for NatsReader {
    async fn next_batch(&mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
        if limit > 0 {
            self.wait().await?;
        }
        // Nothing is awaited once a record is taken out, so a dropped call loses none.
        let mut records: Vec<Record> = self.held.by_ref().take(limit).collect();
        while !records.is_empty() && records.len() < limit && self.is_more_at_hand() {
            records.extend(self.held.by_ref().take(limit - records.len()));
        }
        Ok(records)
    }
}
