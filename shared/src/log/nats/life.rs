//! Lives of a partition: where the present one began, what it holds, and how another one begins.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, Stream};
use bytes::Bytes;
use tokio::time::timeout;
use tracing::{info, warn};

use super::failure::CALL_MAX;
use super::record::{INCARNATION, header};
use super::{Names, Shared, open, within};
use crate::clock::Timestamp;
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::log::{Extent, Incarnation};
use crate::partition::Partition;

/// How often a life is looked for again because somebody deletes or renews the stream at the same time.
const LOOKS_MAX: usize = 10;

/// Where a life began.
#[derive(Clone, Debug)]
pub(super) struct Beginning {
    pub(super) incarnation: Incarnation,
    /// The sequence of its beginning; its first record has the next one.
    pub(super) base: u64,
}

/// A life and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) beginning: Beginning,
    pub(super) trimmed: Offset,
    pub(super) last: Offset,
}

impl Life {
    pub(super) fn extent(&self) -> Extent {
        Extent { incarnation: self.beginning.incarnation.clone(), trimmed: self.trimmed, last: self.last }
    }

    /// The sequence of an offset.
    pub(super) const fn sequence(&self, offset: Offset) -> u64 {
        self.beginning.base + offset.get()
    }

    /// Whether a reader can go on from a place.
    pub(super) fn continues(&self, incarnation: &Incarnation, after: Offset) -> bool {
        self.beginning.incarnation == *incarnation && (self.trimmed..=self.last).contains(&after)
    }
}

impl Shared {
    /// What calls to a stream are made on; asks the server nothing.
    pub(super) async fn stream(&self, operation: &'static str, names: &Names) -> Result<Stream<()>, BackendError> {
        let stream = self.jetstream.get_stream_no_info(&names.stream).await;
        stream.map_err(|error| BackendError::broken(operation, error))
    }

    /// The present life of a partition. The end of the stream is read first: a beginning found afterwards is either in
    /// front of it, so both belong together, or behind it, and then the life was empty a moment ago.
    pub(super) async fn life(&self, operation: &'static str, names: &Names) -> Result<Life, BackendError> {
        for _ in 0..LOOKS_MAX {
            let Some(stream) = self.info(operation, names).await? else {
                open::create(self, names).await?;
                continue;
            };
            let last = stream.state.last_sequence;
            match self.beginning(operation, names).await? {
                Some(beginning) => {
                    self.lives().insert(names.partition, beginning.clone());
                    return self.measure(operation, names, beginning, last).await;
                }
                None => self.begin(operation, names, last).await?,
            }
        }
        Err(BackendError::not_done(operation, format!("somebody keeps changing the stream {}", names.stream)))
    }

    /// The life a partition had when somebody looked last. It may have ended: then a publish to it writes nothing (N2).
    pub(super) fn known(&self, names: &Names) -> Option<Beginning> {
        self.lives().get(&names.partition).cloned()
    }

    fn lives(&self) -> MutexGuard<'_, BTreeMap<Partition, Beginning>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the life with this name, and begins another; or answers the one that did.
    pub(super) async fn renew(&self, names: &Names, ended: &Incarnation) -> Result<Life, BackendError> {
        for _ in 0..LOOKS_MAX {
            let life = self.life("renew", names).await?;
            if life.beginning.incarnation != *ended {
                return Ok(life);
            }
            // A publish in between makes this one expect the wrong end; then it is done again.
            self.begin("renew", names, life.sequence(life.last)).await?;
        }
        Err(BackendError::not_done("renew", format!("somebody keeps publishing to the stream {}", names.stream)))
    }

    pub(super) async fn info(&self, operation: &'static str, names: &Names) -> Result<Option<Info>, BackendError> {
        let error = match timeout(CALL_MAX, self.jetstream.get_stream(&names.stream)).await {
            Ok(Ok(stream)) => return Ok(Some(stream.cached_info().clone())),
            Ok(Err(error)) => error,
            Err(elapsed) => return Err(BackendError::not_done(operation, elapsed)),
        };
        match error.kind() {
            GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                Err(BackendError::broken(operation, error))
            }
            GetStreamErrorKind::JetStream(_) | GetStreamErrorKind::Request => {
                Err(BackendError::not_done(operation, error))
            }
        }
    }

    async fn beginning(&self, operation: &'static str, names: &Names) -> Result<Option<Beginning>, BackendError> {
        let stream = self.stream(operation, names).await?;
        let Some(found) = found(operation, stream.get_last_raw_message_by_subject(&names.beginnings)).await? else {
            return Ok(None);
        };
        // A beginning without a name was made by somebody else; another one follows it.
        let name = header(&found.headers, INCARNATION).ok();
        Ok(name.map(|name| Beginning { incarnation: Incarnation(name.into()), base: found.sequence }))
    }

    /// What a life holds when the stream ends here. What was trimmed is whatever lies in front of its first record.
    async fn measure(
        &self,
        operation: &'static str,
        names: &Names,
        beginning: Beginning,
        last_sequence: u64,
    ) -> Result<Life, BackendError> {
        let base = beginning.base;
        let last = last_sequence.max(base);
        let stream = self.stream(operation, names).await?;
        let first = found(operation, stream.get_first_raw_message_by_subject(&names.records, base + 1)).await?;
        let trimmed = first.map_or(last, |first| (first.sequence - 1).min(last));
        Ok(Life { beginning, trimmed: Offset::new(trimmed - base), last: Offset::new(last - base) })
    }

    /// Begins another life behind this end of the stream, and forgets what lies in front of it. Does nothing if the
    /// stream ends elsewhere.
    async fn begin(&self, operation: &'static str, names: &Names, last_sequence: u64) -> Result<(), BackendError> {
        let incarnation = Incarnation(self.ids.commit().to_string().into());
        let mut headers = HeaderMap::new();
        headers.insert(INCARNATION, &*incarnation.0);
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SEQUENCE, last_sequence.to_string().as_str());
        let body = Bytes::from(format!("{{\"incarnation\":\"{incarnation}\"}}"));
        let Some(base) = self.begun(operation, &names.beginnings, headers, body).await? else { return Ok(()) };
        info!(stream = names.stream, %incarnation, base, "a life of a partition begins");
        // What stays when this fails lies in front of every life that is read, and goes with the next trim or renewal.
        let purge = self.stream(operation, names).await?.purge().sequence(base);
        if let Err(failure) = within(operation, purge).await {
            warn!(stream = names.stream, %failure, "records of an ended life are still there");
        }
        Ok(())
    }

    /// The last offset that may be forgotten: no later than `through`, and published before `before`. Times of a stream
    /// grow with its sequences, so it is found by halving.
    pub(super) async fn forgettable(
        &self,
        names: &Names,
        life: &Life,
        through: Offset,
        before: Timestamp,
    ) -> Result<Offset, BackendError> {
        let stream = self.stream("trim", names).await?;
        let (mut old, mut unknown) = (life.trimmed.get(), through.get());
        while old < unknown {
            let middle = old + (unknown - old).div_ceil(2);
            let sequence = life.sequence(Offset::new(middle));
            // One that is gone was trimmed by somebody else, who had a reason.
            let is_old = found("trim", stream.get_raw_message(sequence))
                .await?
                .is_none_or(|message| micros(&message) < before.as_micros());
            if is_old { old = middle } else { unknown = middle - 1 }
        }
        Ok(Offset::new(old))
    }

    /// Forgets the records up to a sequence; the beginning of the life stays. Answers how many.
    pub(super) async fn purge(&self, names: &Names, through: u64) -> Result<u64, BackendError> {
        let purge = self.stream("trim", names).await?.purge().filter(&names.records).sequence(through + 1);
        match timeout(CALL_MAX, IntoFuture::into_future(purge)).await {
            Ok(answer) => answer.map(|purged| purged.purged).map_err(|error| BackendError::unknown("trim", error)),
            Err(elapsed) => Err(BackendError::unknown("trim", elapsed)),
        }
    }
}

fn micros(message: &StreamMessage) -> i64 {
    i64::try_from(message.time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

async fn found(
    operation: &'static str,
    question: impl Future<Output = Result<StreamMessage, async_nats::jetstream::stream::RawMessageError>>,
) -> Result<Option<StreamMessage>, BackendError> {
    match timeout(CALL_MAX, question).await {
        Ok(Ok(message)) => Ok(Some(message)),
        Ok(Err(error)) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Ok(Err(error)) => Err(BackendError::not_done(operation, error)),
        Err(elapsed) => Err(BackendError::not_done(operation, elapsed)),
    }
}
