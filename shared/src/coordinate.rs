//! Coordinates: each counts one thing, and none converts into another.
//!
//! "After" is exclusive everywhere; "last" is the newest that exists.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $origin:ident, $origin_doc:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            #[doc = $origin_doc]
            pub const $origin: Self = Self(0);

            /// The coordinate with this number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The plain number, for backends and wire formats.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The coordinate directly after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

counter!(
    /// How many events a stream holds; the nth event has version n.
    ///
    /// ```
    /// use shared::coordinate::Version;
    /// assert_eq!(Version::EMPTY.next(), Version::new(1));
    /// assert_eq!(Version::new(12).to_string(), "v12");
    /// ```
    Version,
    "v",
    EMPTY,
    "The version of a stream that does not exist."
);

counter!(
    /// A record's place in one partition of the log; the first record has offset 1.
    Offset,
    "o",
    START,
    "Before the first record."
);

counter!(
    /// The number of the grant of a lease; a higher one wins.
    Epoch,
    "e",
    NONE,
    "Below every epoch ever granted."
);

counter!(
    /// How often a register was written; compared, never interpreted.
    Revision,
    "r",
    ABSENT,
    "The revision of a register that does not exist."
);

impl Version {
    /// Above every version a stream can reach; fits the signed 64-bit integers of every backend.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The version of a stream that has grown by `events` events.
    #[must_use]
    pub const fn plus(self, events: u64) -> Self {
        Self(self.0 + events)
    }

    /// The version directly before this one; the empty stream has none and stays empty.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Where a feed of the store resumes: opaque, made by the store, understood by that store alone.
///
/// Positions have no total order that readers could compare. Correctness does not depend on them: they only say where
/// to start reading, and starting too early is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Before the first commit.
    Start,
    /// A store that numbers its commits.
    Number(u64),
    /// A store that hands out tokens.
    Token(Box<str>),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("@start"),
            Self::Number(number) => write!(f, "@{number}"),
            Self::Token(token) => write!(f, "@{token}"),
        }
    }
}
