//! Lives of a partition: where the present one began, where it ends, and how another one begins.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Info;
use bytes::Bytes;
use tokio::time::timeout;
use tracing::{info, warn};

use super::failure::CALL_MAX;
use super::find::found;
use super::message::{INCARNATION, header};
use super::write::Fate;
use super::{Names, Shared, open, within};
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::log::{Extent, Incarnation};
use crate::partition::Partition;

/// How often a life is looked for again because somebody deletes or renews the stream at the same time.
const LOOKS_MAX: usize = 10;

/// Where a life ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The sequence of its last message, or of its beginning if none follows.
    pub(super) sequence: u64,
    /// The offset of its last record.
    pub(super) last: Offset,
}

/// A life and its end, as far as this log knows: all that a publish has to say.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) incarnation: Incarnation,
    pub(super) end: End,
}

/// A life and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) known: Known,
    /// The sequence of its beginning.
    pub(super) base: u64,
    pub(super) trimmed: Offset,
    /// The sequence of the first message that is held; of the next one if none is.
    pub(super) first: u64,
    /// When the stream it was found in was made, in nanoseconds since 1970: one that is made again is another.
    pub(super) made: i128,
}

impl Life {
    pub(super) fn extent(&self) -> Extent {
        let Known { incarnation, end } = &self.known;
        Extent { incarnation: incarnation.clone(), trimmed: self.trimmed, last: end.last }
    }

    /// Whether a reader can go on from a place.
    pub(super) fn continues(&self, incarnation: &Incarnation, after: Offset) -> bool {
        self.known.incarnation == *incarnation && (self.trimmed..=self.known.end.last).contains(&after)
    }

    /// Whether this life still is the present one, and no message follows this sequence. To begin another life takes a
    /// sequence; what a stream loses by hand, its beginning goes first.
    pub(super) fn ends_at(&self, sequence: u64, stream: &Info) -> bool {
        let state = &stream.state;
        made(stream) == self.made && state.first_sequence <= self.base && state.last_sequence == sequence
    }
}

fn made(stream: &Info) -> i128 {
    stream.created.unix_timestamp_nanos()
}

impl Shared {
    /// The present life of a partition. The end of the stream is read first: a beginning found afterwards is either in
    /// front of it, so both belong together, or behind it, and then the life was empty a moment ago.
    pub(super) async fn life(&self, operation: &'static str, names: &Names) -> Result<Life, BackendError> {
        for _ in 0..LOOKS_MAX {
            let Some(stream) = self.info(operation, names).await? else {
                open::create(self, names).await?;
                continue;
            };
            let beginning = self.beginning(operation, names).await?;
            let had_life = beginning.is_some();
            if let Some((incarnation, base)) = beginning
                && let Some(life) = self.measure(operation, names, incarnation, base, &stream).await?
            {
                self.note(names, life.known.clone());
                return Ok(life);
            }
            // Refused if something follows by now; then all of it is looked at again.
            let has_begun = self.begin(operation, names, stream.state.last_sequence).await?;
            if has_begun && had_life {
                warn!(stream = names.stream, "the incarnation was incomplete, a new one began");
            }
        }
        Err(BackendError::not_done(operation, format!("another process keeps changing the stream {}", names.stream)))
    }

    /// The end a partition had when this log looked or published last. It may have moved: then a publish behind it
    /// writes nothing (N2).
    pub(super) fn known(&self, names: &Names) -> Option<Known> {
        self.lives().get(&names.partition).cloned()
    }

    pub(super) fn note(&self, names: &Names, known: Known) {
        self.lives().insert(names.partition, known);
    }

    fn lives(&self) -> MutexGuard<'_, BTreeMap<Partition, Known>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the life with this name, and begins another; or answers the one that did.
    pub(super) async fn renew(&self, names: &Names, ended: &Incarnation) -> Result<Life, BackendError> {
        for _ in 0..LOOKS_MAX {
            let life = self.life("renew", names).await?;
            if life.known.incarnation != *ended {
                return Ok(life);
            }
            // A publish in between makes this one expect the wrong end; then it is done again.
            self.begin("renew", names, life.known.end.sequence).await?;
        }
        Err(BackendError::not_done("renew", format!("another process keeps publishing to the stream {}", names.stream)))
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

    /// The name of the present life and the sequence of its beginning.
    async fn beginning(
        &self,
        operation: &'static str,
        names: &Names,
    ) -> Result<Option<(Incarnation, u64)>, BackendError> {
        let stream = self.stream(operation, names).await?;
        let Some(found) = found(operation, stream.get_last_raw_message_by_subject(&names.beginnings)).await? else {
            return Ok(None);
        };
        // A beginning without a name was made by somebody else; another one follows it.
        let name = header(&found.headers, INCARNATION).ok();
        Ok(name.map(|name| (Incarnation(name.into()), found.sequence)))
    }

    /// What a life holds in a stream that ended so. Nothing if it does not end in a record of this life, or does not
    /// begin with one: then it cannot be told (law N5).
    async fn measure(
        &self,
        operation: &'static str,
        names: &Names,
        incarnation: Incarnation,
        base: u64,
        stream: &Info,
    ) -> Result<Option<Life>, BackendError> {
        let (sequence, made) = (stream.state.last_sequence, made(stream));
        if sequence <= base {
            let known = Known { incarnation, end: End { sequence: base, last: Offset::START } };
            return Ok(Some(Life { known, base, trimmed: Offset::START, first: base + 1, made }));
        }
        let Some(newest) = self.span(operation, names, &incarnation, sequence).await? else { return Ok(None) };
        let Some((first, oldest)) = self.oldest(operation, names, &incarnation, base).await? else { return Ok(None) };
        let Some(trimmed) = oldest.first.get().checked_sub(1).filter(|_| first <= sequence) else { return Ok(None) };
        let known = Known { incarnation, end: End { sequence, last: newest.last } };
        Ok(Some(Life { known, base, trimmed: Offset::new(trimmed), first, made }))
    }

    /// Begins another life behind this end of the stream, and forgets what lies in front of it. Does nothing if the
    /// stream ends elsewhere. Answers whether it has begun.
    async fn begin(&self, operation: &'static str, names: &Names, last_sequence: u64) -> Result<bool, BackendError> {
        let incarnation = Incarnation(self.ids.commit().to_string().into());
        let mut headers = HeaderMap::new();
        headers.insert(INCARNATION, &*incarnation.0);
        let body = Bytes::from(format!("{{\"incarnation\":\"{incarnation}\"}}"));
        let base = match self.put(operation, &names.beginnings, last_sequence, headers, body).await? {
            Fate::Stored(base) => base,
            Fate::Elsewhere => return Ok(false),
            Fate::Full => {
                return Err(BackendError::not_done(operation, "the stream has no room to begin a new incarnation"));
            }
        };
        info!(stream = names.stream, %incarnation, base, "new incarnation of a partition");
        // What stays when this fails lies in front of every life that is read, and goes with the next trim or renewal.
        let purge = self.stream(operation, names).await?.purge().sequence(base);
        if let Err(failure) = within(operation, purge).await {
            warn!(stream = names.stream, %failure, "cannot purge the records of an ended incarnation");
        }
        Ok(true)
    }
}
