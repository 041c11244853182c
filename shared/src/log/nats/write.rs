//! Publishing, so that a wrong belief about the end of a partition writes nothing.

use async_nats::client::{PublishErrorKind, Request, RequestErrorKind};
use async_nats::header::{NATS_EXPECTED_LAST_MESSAGE_ID, NATS_EXPECTED_LAST_SEQUENCE};
use async_nats::jetstream::ErrorCode;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::timeout;

use super::failure::CALL_MAX;
use super::life::Beginning;
use super::{FULL_WAIT, Names, Shared, record};
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::log::{Incarnation, PublishError};
use crate::store::FeedEntry;

/// How many records are published for one answer: far fewer than the server queues for a stream.
pub(super) const BATCH_MAX: usize = 500;

/// What the server says when a limit of the stream keeps a message out; the code alone covers every failure of its
/// storage.
const LIMIT_REACHED: &str = "maximum";

/// The answer to a publish.
#[derive(Deserialize)]
struct Answer {
    error: Option<async_nats::jetstream::Error>,
    #[serde(default)]
    seq: u64,
}

/// What became of a part of a batch.
enum Fate {
    /// It lies at the end; the sequence is that of its last message.
    Stored(u64),
    /// Nothing was written: the stream ends elsewhere, or does not exist.
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
        let known = self.known(names).filter(|known| known.incarnation == *incarnation && !batch.is_empty());
        let Some(beginning) = known else {
            return self.look_and_publish(names, incarnation, after, batch).await;
        };
        self.publish_to(names, &beginning, after, batch).await
    }

    /// The first publish to a life: where it began has to be asked for, and the belief can be checked at once.
    async fn look_and_publish(
        &self,
        names: &Names,
        incarnation: &Incarnation,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        let life = self.life("publish", names).await?;
        if life.beginning.incarnation != *incarnation || life.last != after {
            return Err(PublishError::Conflict(life.extent()));
        }
        self.publish_to(names, &life.beginning, after, batch).await
    }

    async fn publish_to(
        &self,
        names: &Names,
        beginning: &Beginning,
        after: Offset,
        batch: &[FeedEntry],
    ) -> Result<Offset, PublishError> {
        let mut last = beginning.base + after.get();
        for part in batch.chunks(BATCH_MAX) {
            match self.store(names, &beginning.incarnation, last, part).await? {
                Fate::Stored(sequence) => last = sequence,
                Fate::Elsewhere => return Err(self.why_not(names, beginning, last, part).await?),
                Fate::Full => return Err(PublishError::Full { after: FULL_WAIT }),
            }
        }
        Ok(Offset::new(last - beginning.base))
    }

    /// Why a part was not stored behind a sequence. If the stream ends where it was believed to, the first message was
    /// refused, or lost, and the answer to the last does not say why: the first is published once more, alone.
    async fn why_not(
        &self,
        names: &Names,
        beginning: &Beginning,
        expected: u64,
        part: &[FeedEntry],
    ) -> Result<PublishError, BackendError> {
        let life = self.life("publish", names).await?;
        let believed = life.beginning.incarnation == beginning.incarnation && life.sequence(life.last) == expected;
        if !believed || part.len() == 1 {
            return Ok(PublishError::Conflict(life.extent()));
        }
        match self.store(names, &beginning.incarnation, expected, &part[..1]).await? {
            Fate::Full => Ok(PublishError::Full { after: FULL_WAIT }),
            Fate::Stored(_) | Fate::Elsewhere => {
                Ok(PublishError::Conflict(self.life("publish", names).await?.extent()))
            }
        }
    }

    /// Publishes one part behind a sequence. Only its last message is answered, for all of them (law N3).
    async fn store(
        &self,
        names: &Names,
        life: &Incarnation,
        expected: u64,
        part: &[FeedEntry],
    ) -> Result<Fate, BackendError> {
        let client = self.jetstream.client();
        let messages = (expected..).zip(part).scan(None::<String>, |before, (last, FeedEntry { recorded, .. })| {
            let id = record::id(recorded, last + 1);
            let mut headers = record::headers(recorded, life, &id);
            headers.insert(NATS_EXPECTED_LAST_SEQUENCE, last.to_string().as_str());
            if let Some(before) = before.replace(id) {
                headers.insert(NATS_EXPECTED_LAST_MESSAGE_ID, before.as_str());
            }
            Some((headers, record::body(recorded)))
        });
        let mut messages: Vec<_> = messages.collect();
        let Some((headers, body)) = messages.pop() else { return Ok(Fate::Stored(expected)) };
        for (headers, body) in messages {
            let sent = client.publish_with_headers(names.records.clone(), headers, body);
            match timeout(CALL_MAX, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    return Err(BackendError::broken("publish", error));
                }
                Ok(Err(error)) => return Err(BackendError::unknown("publish", error)),
                Err(elapsed) => return Err(BackendError::unknown("publish", elapsed)),
            }
        }
        answered("publish", &client, &names.records, headers, body).await
    }

    /// Publishes the beginning of a life; its sequence, or nothing if the stream ends elsewhere.
    pub(super) async fn begun(
        &self,
        operation: &'static str,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Option<u64>, BackendError> {
        match answered(operation, &self.jetstream.client(), subject, headers, body).await? {
            Fate::Stored(sequence) => Ok(Some(sequence)),
            Fate::Elsewhere => Ok(None),
            Fate::Full => Err(BackendError::not_done(operation, "there is no room for the beginning of a life")),
        }
    }
}

async fn answered(
    operation: &'static str,
    client: &Client,
    subject: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Fate, BackendError> {
    let request = Request::new().headers(headers).payload(body).timeout(Some(CALL_MAX));
    let answer = match client.send_request(subject.to_owned(), request).await {
        Ok(answer) => answer,
        Err(error) => {
            return match error.kind() {
                RequestErrorKind::NoResponders => Ok(Fate::Elsewhere),
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    Err(BackendError::broken(operation, error))
                }
                RequestErrorKind::TimedOut | RequestErrorKind::Other => Err(BackendError::unknown(operation, error)),
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

/// What a refusal means: only those known to have had no effect are told as such.
fn refused(operation: &'static str, refusal: async_nats::jetstream::Error) -> Result<Fate, BackendError> {
    match refusal.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE
        | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
        | ErrorCode::STREAM_WRONG_LAST_MESSAGE_ID => Ok(Fate::Elsewhere),
        ErrorCode::STREAM_STORE_FAILED if refusal.to_string().contains(LIMIT_REACHED) => Ok(Fate::Full),
        // The limits of the account, and those of the server.
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED | ErrorCode::INSUFFICIENT_RESOURCES => Ok(Fate::Full),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Err(BackendError::broken(operation, refusal)),
        _ => Err(BackendError::unknown(operation, refusal)),
    }
}
