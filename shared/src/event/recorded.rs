//! Events as the store takes them, and as feed and log carry them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::AccountEvent;
use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::id::{AccountId, EventId};

/// An event with its identity and time: what `decide` produced, ready to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Unique over all processes.
    pub id: EventId,
    /// When it was decided; metadata, never an order.
    pub time: Timestamp,
    /// What happened.
    pub event: AccountEvent,
}

/// Some events as one JSON array, and their number.
///
/// Store, feed and log carry events in this form without looking inside; only folds decode them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEvents {
    /// How many events the array holds; at least one.
    pub count: u32,
    /// The array, in UTF-8: `[{"id","type","schema","time","data"}, …]`.
    pub json: Bytes,
}

/// What one append added to one stream: the unit the feed yields, the log keeps and folds consume.
///
/// It is taken whole or not at all, so a reader never stops inside one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Whose events.
    pub stream: AccountId,
    /// The version of the first event.
    pub first_version: Version,
    /// When they were committed, by the clock of the process that decided them.
    pub time: Timestamp,
    /// The events, versions `first_version`, `first_version + 1`, ….
    pub events: EncodedEvents,
}

impl Recorded {
    /// The version of the last event.
    #[must_use]
    pub const fn last_version(&self) -> Version {
        Version::new(self.first_version.get() + self.events.count as u64 - 1)
    }
}

/// A stream and how much of it the reader already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAfter {
    /// The stream.
    pub stream: AccountId,
    /// The last version the reader has; [`Version::EMPTY`] for none.
    pub after: Version,
}
