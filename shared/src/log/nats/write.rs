//! Publishing, such that a wrong belief about the end of a partition writes nothing.

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE};
use async_nats::jetstream::ErrorCode;
use bytes::Bytes;
use serde::Deserialize;

use super::failure::CALL_MAX;
use super::life::{End, Known};
use super::{FULL_WAIT, Names, Shared, message};
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::log::{Incarnation, PublishError, body};
use crate::store::FeedEntry;

/// Part of the server's text when a limit of the stream rejects a message; the error code alone covers every failure of
/// its storage.
const LIMIT_REACHED: &str = "maximum";

/// The answer to a publish.
#[derive(Deserialize)]
struct Answer {
    error: Option<async_nats::jetstream::Error>,
    #[serde(default)]
    seq: u64,
}

/// Which message its publisher believes to precede a message; it is stored only then (law N2).
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    /// The message at this sequence is the last of the stream.
    Message(u64),
    /// The message at this sequence is the last beginning, whatever records follow it.
    Beginning(u64),
}

/// What became of a message.
pub(super) enum Fate {
    /// It is stored at the end, with this sequence.
    Stored(u64),
    /// Nothing was written: another message precedes it, or the stream does not exist.
    Elsewhere,
    /// Nothing was written: there is no room.
    Full,
}

impl Shared {
    pub(super) async fn publish(
        &self,
        names: &Names,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        let known = self.known(names).filter(|known| known.incarnation == *incarnation && known.end.last == after);
        match known.filter(|_| !batch.is_empty()) {
            Some(known) => self.publish_to(names, known, batch).await,
            None => self.look_and_publish(names, incarnation, after, batch).await,
        }
    }

    /// Publishes after an end this log has not seen: asks where it is, and checks the publisher's belief.
    async fn look_and_publish(
        &self,
        names: &Names,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        let life = self.life("publish", names).await?;
        if life.known.incarnation != *incarnation || life.known.end.last != after {
            return Err(PublishError::Conflict(life.extent()));
        }
        self.publish_to(names, life.known, batch).await
    }

    /// Publishes one message after the other; there is rarely more than one (law N3).
    async fn publish_to(&self, names: &Names, known: Known, batch: &[FeedEntry]) -> Result<Offset, PublishError> {
        let Known { incarnation, mut end } = known;
        for part in body::parts(batch) {
            match self.store(names, &incarnation, end, part).await? {
                Fate::Stored(sequence) => {
                    end = End { sequence, last: Offset::new(end.last.get() + part.len() as u64) };
                    self.note(names, Known { incarnation: incarnation.clone(), end });
                }
                Fate::Elsewhere => return Err(PublishError::Conflict(self.life("publish", names).await?.extent())),
                Fate::Full => return Err(PublishError::Full { after: FULL_WAIT }),
            }
        }
        Ok(end.last)
    }

    /// Publishes a message at the end of an incarnation.
    async fn store(
        &self,
        names: &Names,
        life: &Incarnation,
        end: End,
        part: &[FeedEntry],
    ) -> Result<Fate, BackendError> {
        let headers = message::headers(life, end.last, part.len());
        self.put("publish", &names.records, After::Message(end.sequence), headers, body::write(part)).await
    }

    /// Publishes a message, if the server finds it after the one it is to follow.
    pub(super) async fn put(
        &self,
        operation: &'static str,
        subject: &str,
        after: After,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Fate, BackendError> {
        let (condition, sequence) = match after {
            After::Message(sequence) => (NATS_EXPECTED_LAST_SEQUENCE, sequence),
            After::Beginning(sequence) => (NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence),
        };
        headers.insert(condition, sequence.to_string().as_str());
        let request = Request::new().headers(headers).payload(body).timeout(Some(CALL_MAX));
        let answer = match self.jetstream.client().send_request(subject.to_owned(), request).await {
            Ok(answer) => answer,
            Err(error) => {
                return match error.kind() {
                    RequestErrorKind::NoResponders => Ok(Fate::Elsewhere),
                    RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                        Err(BackendError::broken(operation, error))
                    }
                    RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                        Err(BackendError::unknown(operation, error))
                    }
                };
            }
        };
        let answer: Answer =
            serde_json::from_slice(&answer.payload).map_err(|error| BackendError::unknown(operation, error))?;
        match answer.error {
            None => Ok(Fate::Stored(answer.seq)),
            Some(refusal) => refused(operation, refusal),
        }
    }
}

/// What a refusal means: only those known to have had no effect are reported as such.
fn refused(operation: &'static str, refusal: async_nats::jetstream::Error) -> Result<Fate, BackendError> {
    match refusal.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => Ok(Fate::Elsewhere),
        ErrorCode::STREAM_STORE_FAILED if refusal.to_string().contains(LIMIT_REACHED) => Ok(Fate::Full),
        // The limits of the account, and those of the server.
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED | ErrorCode::INSUFFICIENT_RESOURCES => Ok(Fate::Full),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Err(BackendError::broken(operation, refusal)),
        _ => Err(BackendError::unknown(operation, refusal)),
    }
}
