//! Incarnations of a partition: where the current one began, where it ends, and how a new one begins.

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
use super::write::{After, Fate};
use super::{Names, Shared, open, within};
use crate::coordinate::Offset;
use crate::error::BackendError;
use crate::log::{Extent, Incarnation};
use crate::partition::Partition;

/// How often an incarnation is looked up again because another process deletes or renews the stream at the same time.
const LOOKS_MAX: usize = 10;

/// What the server calls the sequence of the last beginning if there is none.
const NO_BEGINNING: u64 = 0;

/// The last message that begins an incarnation.
struct Beginning {
    /// Its sequence, or [`NO_BEGINNING`].
    base: u64,
    /// What it is called; `None` if it has no name, or does not exist.
    incarnation: Option<Incarnation>,
}

/// Where an incarnation ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The sequence of its last message, or of its beginning if none follows.
    pub(super) sequence: u64,
    /// The offset of its last record.
    pub(super) last: Offset,
}

/// An incarnation and its end, as far as this log knows: all that a publish needs.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) incarnation: Incarnation,
    pub(super) end: End,
}

/// An incarnation and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) known: Known,
    /// The sequence of its beginning.
    pub(super) base: u64,
    pub(super) trimmed: Offset,
    /// The sequence of the first message held, or of the next one if none is.
    pub(super) first: u64,
    /// When its stream was created, in nanoseconds since 1970: a stream that is created again is another one.
    pub(super) made: i128,
}

impl Life {
    pub(super) fn extent(&self) -> Extent {
        let Known { incarnation, end } = &self.known;
        Extent { incarnation: incarnation.clone(), trimmed: self.trimmed, last: end.last }
    }

    /// Whether a reader can continue after an offset.
    pub(super) fn continues(&self, incarnation: &Incarnation, after: Offset) -> bool {
        self.known.incarnation == *incarnation && (self.trimmed..=self.known.end.last).contains(&after)
    }

    /// Whether this incarnation is still the current one, and no message follows this sequence. Beginning a new
    /// incarnation takes a sequence, and removing messages by hand removes the beginning first.
    pub(super) fn ends_at(&self, sequence: u64, stream: &Info) -> bool {
        let state = &stream.state;
        made(stream) == self.made && state.first_sequence <= self.base && state.last_sequence == sequence
    }
}

fn made(stream: &Info) -> i128 {
    stream.created.unix_timestamp_nanos()
}

impl Shared {
    /// The current incarnation of a partition. The end of the stream is read first: a beginning found afterwards is
    /// either before it, so both belong together, or after it, and then the incarnation was empty a moment ago.
    pub(super) async fn life(&self, operation: &'static str, names: &Names) -> Result<Life, BackendError> {
        let mut incomplete = None;
        for _ in 0..LOOKS_MAX {
            let Some(stream) = self.info(operation, names).await? else {
                open::create(self, names).await?;
                continue;
            };
            let Beginning { base, incarnation } = self.beginning(operation, names).await?;
            let had_life = incarnation.is_some();
            if let Some(incarnation) = incarnation {
                if let Some(life) = self.measure(operation, names, incarnation, base, &stream).await? {
                    self.note(names, life.known.clone());
                    return Ok(life);
                }
                // What was the end a moment ago may have been trimmed after a publish: one look proves no hole.
                if incomplete.replace(base) != Some(base) {
                    continue;
                }
            }
            // Refused if another has begun by now; then everything is looked up again.
            let has_begun = self.begin(operation, names, base, stream.state.last_sequence).await?;
            if has_begun && had_life {
                warn!(stream = names.stream, "the incarnation was incomplete, a new one began");
            }
        }
        Err(BackendError::not_done(operation, format!("another process keeps changing the stream {}", names.stream)))
    }

    /// The end of a partition when this log last looked it up or published. It may have moved: then a publish after it
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

    /// Ends this incarnation and begins a new one, or returns the one that has already replaced it.
    pub(super) async fn renew(&self, names: &Names, ended: &Incarnation) -> Result<Life, BackendError> {
        for _ in 0..LOOKS_MAX {
            let life = self.life("renew", names).await?;
            if life.known.incarnation != *ended {
                return Ok(life);
            }
            // Refused if another has begun in between; that one is looked up then.
            self.begin("renew", names, life.base, life.known.end.sequence).await?;
        }
        Err(BackendError::not_done("renew", format!("another process keeps changing the stream {}", names.stream)))
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

    /// Where the current incarnation began.
    async fn beginning(&self, operation: &'static str, names: &Names) -> Result<Beginning, BackendError> {
        let stream = self.stream(operation, names).await?;
        let Some(found) = found(operation, stream.get_last_raw_message_by_subject(&names.beginnings)).await? else {
            return Ok(Beginning { base: NO_BEGINNING, incarnation: None });
        };
        // A beginning without a name is foreign; a new one follows it.
        let incarnation = header(&found.headers, INCARNATION).ok().map(|name| Incarnation(name.into()));
        Ok(Beginning { base: found.sequence, incarnation })
    }

    /// What an incarnation holds, given the end of its stream. `None` if the first or the last message is not a record
    /// of this incarnation: then the extent cannot be known (law N5).
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

    /// Begins a new incarnation at the end of the stream, and removes what precedes it. Does nothing unless the last
    /// beginning is the one at `before`. If there is no room for another, the records of the incarnation that it ends,
    /// which are those up to `ended`, make room. Returns whether the incarnation has begun.
    async fn begin(
        &self,
        operation: &'static str,
        names: &Names,
        before: u64,
        ended: u64,
    ) -> Result<bool, BackendError> {
        let incarnation = Incarnation(self.ids.commit().to_string().into());
        let mut headers = HeaderMap::new();
        headers.insert(INCARNATION, &*incarnation.0);
        let body = Bytes::from(format!("{{\"incarnation\":\"{incarnation}\"}}"));
        let after = After::Beginning(before);
        let mut fate = self.put(operation, &names.beginnings, after, headers.clone(), body.clone()).await?;
        if matches!(fate, Fate::Full) {
            warn!(stream = names.stream, "no room to begin a new incarnation, removing the records of the last one");
            self.purge(names, ended).await?;
            fate = self.put(operation, &names.beginnings, after, headers, body).await?;
        }
        let base = match fate {
            Fate::Stored(base) => base,
            Fate::Elsewhere => return Ok(false),
            Fate::Full => {
                return Err(BackendError::not_done(operation, "the stream has no room to begin a new incarnation"));
            }
        };
        info!(stream = names.stream, %incarnation, base, "new incarnation of a partition");
        // What remains if this fails precedes every incarnation that is read, and goes with the next trim or renewal.
        let purge = self.stream(operation, names).await?.purge().sequence(base);
        if let Err(failure) = within(operation, purge).await {
            warn!(stream = names.stream, %failure, "cannot purge the records of an ended incarnation");
        }
        Ok(true)
    }
}
