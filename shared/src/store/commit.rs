//! Commits: as they are appended, as the store keeps them, and what became of them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::event::EncodedEvents;
use crate::id::{AccountId, CommitId};

/// The unit of append: writes to one or more streams, taken whole.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its identity; an append repeated with the same id takes effect once.
    pub id: CommitId,
    /// When it was decided.
    pub time: Timestamp,
    /// The customer's idempotency key and the request it was sent with.
    pub key: Option<KeyedRequest>,
    /// The answer to the customer, now and to every repeat of the request; opaque to the store.
    pub receipt: Bytes,
    /// At least one; each to a different stream.
    pub writes: Vec<StreamWrite>,
}

/// Events for one stream, and the version the writer expects it to be at.
#[derive(Clone, Debug)]
pub struct StreamWrite {
    /// The stream.
    pub stream: AccountId,
    /// The version the stream has before the write; [`Version::EMPTY`] for a new one.
    pub expected: Version,
    /// The events.
    pub events: EncodedEvents,
}

/// The longest idempotency key.
pub const KEY_CHARS_MAX: usize = 255;

/// A name the customer gives to a request, so that repeating it is harmless: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct IdempotencyKey(Arc<str>);

/// The text is not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {KEY_CHARS_MAX} visible ASCII characters")]
pub struct KeyError;

impl IdempotencyKey {
    /// Checks a key.
    ///
    /// # Errors
    /// [`KeyError`] for anything but 1 to 255 visible ASCII characters.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=KEY_CHARS_MAX).contains(&text.len()) { Ok(Self(text.into())) } else { Err(KeyError) }
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key with a digest of its request, so that reusing the key for another request is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRequest {
    /// The customer's key.
    pub key: IdempotencyKey,
    /// SHA-256 of the route and the meaning of the body.
    pub request: [u8; 32],
}

/// What the store keeps of a commit besides its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCommit {
    /// Its identity.
    pub id: CommitId,
    /// When it was decided.
    pub time: Timestamp,
    /// The customer's key, if one was given.
    pub key: Option<KeyedRequest>,
    /// The answer the customer got.
    pub receipt: Bytes,
}

/// What became of a commit that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It was taken now.
    New,
    /// Its id or its key was already taken, by this commit; nothing was written now.
    Before(Box<StoredCommit>),
}

/// Why a commit was not taken, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A stream is not at the version the writer expected: load it and decide again.
    #[error("stream {stream} is not at {expected}")]
    Conflict {
        /// The first stream that is at another version.
        stream: AccountId,
        /// The version the writer expected.
        expected: Version,
    },
    /// The store failed. If the effect is unknown, appending the same commit again is harmless (law S4).
    #[error(transparent)]
    Backend(#[from] BackendError),
}
