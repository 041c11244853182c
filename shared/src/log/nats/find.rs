//! Finding messages of an incarnation: where a reader begins, and what may be trimmed. Both use binary search, because
//! within an incarnation offsets and times grow with the sequences of the messages.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind, Stream};
use tokio::time::timeout;

use super::failure::CALL_MAX;
use super::life::Life;
use super::message::{self, INCARNATION, Span, header};
use super::{Names, Shared, within};
use crate::clock::Timestamp;
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::log::Incarnation;

/// The most messages purged in one call, so that no call exceeds its time limit.
const TRIMMED_AT_ONCE: u64 = 100_000;

/// Which message comes next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its sequence.
    pub(super) sequence: u64,
    /// The offset of its first record.
    pub(super) first: Offset,
}

impl Shared {
    /// A handle for calls to a stream; asks the server nothing.
    pub(super) async fn stream(&self, operation: &'static str, names: &Names) -> Result<Stream<()>, BackendError> {
        let stream = self.jetstream.get_stream_no_info(&names.stream).await;
        stream.map_err(|error| BackendError::broken(operation, error))
    }

    /// The records of the message at a sequence, if there is one of this incarnation.
    pub(super) async fn span(
        &self,
        operation: &'static str,
        names: &Names,
        life: &Incarnation,
        sequence: u64,
    ) -> Result<Option<Span>, BackendError> {
        let stream = self.stream(operation, names).await?;
        let message = found(operation, stream.get_raw_message(sequence)).await?;
        Ok(message.and_then(|message| span_in(life, names, &message)))
    }

    /// The first message of records after the beginning of an incarnation, if it belongs to that incarnation.
    pub(super) async fn oldest(
        &self,
        operation: &'static str,
        names: &Names,
        life: &Incarnation,
        base: u64,
    ) -> Result<Option<(u64, Span)>, BackendError> {
        let stream = self.stream(operation, names).await?;
        let message = found(operation, stream.get_first_raw_message_by_subject(&names.records, base + 1)).await?;
        Ok(message.and_then(|message| Some((message.sequence, span_in(life, names, &message)?))))
    }

    /// Where a reader after an offset of this incarnation begins: at the message that holds the next record. If a
    /// message is missing on the way there, at one before the gap, so that the reader comes upon it.
    pub(super) async fn place(
        &self,
        operation: &'static str,
        names: &Names,
        life: &Life,
        after: Offset,
    ) -> Result<Place, BackendError> {
        let (incarnation, end) = (&life.known.incarnation, life.known.end);
        if after == end.last {
            return Ok(Place { sequence: end.sequence + 1, first: after.next() });
        }
        let mut place = Place { sequence: life.first, first: life.trimmed.next() };
        let mut last = end.sequence;
        while place.first <= after && place.sequence < last {
            let middle = place.sequence + (last - place.sequence) / 2;
            match self.span(operation, names, incarnation, middle).await? {
                Some(span) if span.last <= after => {
                    place = Place { sequence: middle + 1, first: span.last.next() };
                }
                Some(_) => last = middle,
                None => break,
            }
        }
        Ok(place)
    }

    /// Removes the messages whose records are all at or below `through` and were published before `before`, but never
    /// the last one, which tells where the incarnation ends. Returns how many records were removed.
    pub(super) async fn trim(&self, names: &Names, through: Offset, before: Timestamp) -> Result<u64, BackendError> {
        let life = self.life("trim", names).await?;
        let stream = self.stream("trim", names).await?;
        let (mut old, mut unknown) = (life.first - 1, life.known.end.sequence - 1);
        let mut trimmed = life.trimmed;
        while old < unknown {
            let middle = old + (unknown - old).div_ceil(2);
            // The message at the sequence, or the one after it: another process may have trimmed it, or it may be lost.
            let next = found("trim", stream.get_first_raw_message_by_subject(&names.records, middle)).await?;
            let goes = next.filter(|next| next.sequence <= unknown).and_then(|next| {
                let span = span_in(&life.known.incarnation, names, &next)?;
                (span.last <= through && micros(&next) < before.as_micros()).then_some((next.sequence, span.last))
            });
            match goes {
                Some((sequence, last)) => (old, trimmed) = (sequence, last),
                None => unknown = middle - 1,
            }
        }
        let mut reached = life.first - 1;
        while reached < old {
            reached = old.min(reached + TRIMMED_AT_ONCE);
            self.purge(names, reached).await?;
        }
        Ok(trimmed.get() - life.trimmed.get())
    }

    /// Removes the records up to a sequence; the beginning of the incarnation stays.
    pub(super) async fn purge(&self, names: &Names, through: u64) -> Result<(), BackendError> {
        let purge = self.stream("trim", names).await?.purge().filter(&names.records).sequence(through + 1);
        within("trim", purge).await.map(drop)
    }
}

/// Which records of an incarnation a message holds, if any.
fn span_in(life: &Incarnation, names: &Names, message: &StreamMessage) -> Option<Span> {
    let is_of_life = header(&message.headers, INCARNATION).is_ok_and(|name| *name == *life.0);
    if is_of_life && *message.subject == *names.records { message::span(&message.headers).ok() } else { None }
}

fn micros(message: &StreamMessage) -> i64 {
    i64::try_from(message.time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// The message that a question finds, if there is one.
pub(super) async fn found(
    operation: &'static str,
    question: impl Future<Output = Result<StreamMessage, RawMessageError>>,
) -> Result<Option<StreamMessage>, BackendError> {
    match timeout(CALL_MAX, question).await {
        Ok(Ok(message)) => Ok(Some(message)),
        Ok(Err(error)) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Ok(Err(error)) => Err(BackendError::not_done(operation, error)),
        Err(elapsed) => Err(BackendError::not_done(operation, elapsed)),
    }
}
