//! Identities. Accounts and commits are named by UUIDs of version 7, events by numbers; all of them sort by time.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};
use crate::text::Text;

/// What a text that names an account or a commit must be, for whoever sent another one.
pub(crate) const MUST_BE_A_UUID: &str = "must be a UUID such as 0198c1a2-7f00-7000-8000-000000000001";

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let Text(id) = Text::deserialize(deserializer)?;
                id.parse().map_err(|_| serde::de::Error::custom(MUST_BE_A_UUID))
            }
        }

        impl $name {
            /// The id with this UUID.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The id of these sixteen bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Sixteen bytes that sort like the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The UUID.
            #[must_use]
            pub const fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            /// Takes the hyphenated form only, so that one id has one spelling.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let hyphenated: uuid::fmt::Hyphenated = text.parse()?;
                Ok(Self(hyphenated.into_uuid()))
            }
        }
    };
}

uuid_id!(
    /// An account and its stream of events: each account has exactly one.
    AccountId
);

uuid_id!(
    /// A commit, and the customer's transaction that it carried out.
    CommitId
);

/// An event: unique over all processes, sorted by time as a number and as text.
///
/// 48 bits of milliseconds, 48 random bits drawn when the process starts, 32 bits of a counter. The text is 39 decimal
/// digits with leading zeros, since 2^128 has 39.
///
/// ```
/// use shared::id::EventId;
/// let (early, late) = (EventId::from_number(9), EventId::from_number(10));
/// assert!(early < late && early.to_string() < late.to_string());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

impl EventId {
    /// The id with this number.
    #[must_use]
    pub const fn from_number(number: u128) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:039}", self.0)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        if text.len() != 39 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(serde::de::Error::custom("an event id must have 39 decimal digits"));
        }
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// Makes ids. Cheap to clone; clones share one counter, so ids of a process never repeat.
#[derive(Clone)]
pub struct Ids {
    clock: Clock,
    state: Arc<Mutex<IdState>>,
}

struct IdState {
    random: StdRng,
    process: u128,
    last_ms: u64,
    counter: u32,
}

impl Ids {
    /// Ids of a production process: randomness from the operating system.
    ///
    /// # Panics
    /// If the operating system provides no randomness: no id would be unique then.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let random = StdRng::try_from_rng(&mut SysRng).expect("the operating system provides randomness");
        Self::with(clock, random)
    }

    /// Ids that a seed determines, for simulations.
    #[must_use]
    pub fn seeded(clock: Clock, seed: u64) -> Self {
        Self::with(clock, StdRng::seed_from_u64(seed))
    }

    fn with(clock: Clock, mut random: StdRng) -> Self {
        let process = u128::from(random.next_u64() >> 16);
        Self { clock, state: Arc::new(Mutex::new(IdState { random, process, last_ms: 0, counter: 0 })) }
    }

    /// A new account's id.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId(self.uuid())
    }

    /// A new commit's id.
    #[must_use]
    pub fn commit(&self) -> CommitId {
        CommitId(self.uuid())
    }

    /// A new event's id, greater than every id this process made before.
    #[must_use]
    pub fn event(&self) -> EventId {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not make a later event sort before an earlier one.
        if now.as_millis() > state.last_ms {
            state.last_ms = now.as_millis();
            state.counter = 0;
        } else if let Some(next) = state.counter.checked_add(1) {
            state.counter = next;
        } else {
            state.last_ms += 1;
            state.counter = 0;
        }
        let ms = u128::from(state.last_ms & ((1 << 48) - 1));
        EventId(ms << 80 | state.process << 32 | u128::from(state.counter))
    }

    fn uuid(&self) -> Uuid {
        let now: Timestamp = self.clock.now();
        let mut bytes = [0; 10];
        self.state.lock().unwrap_or_else(PoisonError::into_inner).random.fill_bytes(&mut bytes);
        uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &bytes).into_uuid()
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn event_ids_sort_by_time_also_as_text_and_when_the_clock_is_set_back() {
        let now = Arc::new(AtomicI64::new(2_000_000));
        let ids = Ids::seeded(
            Clock::of({
                let now = Arc::clone(&now);
                move || Timestamp::from_micros(now.load(Ordering::Relaxed))
            }),
            1,
        );
        let mut made = Vec::new();
        for micros in [2_000_000, 2_000_000, 5_000_000, 1_000_000, 1_000_000, 9_000_000] {
            now.store(micros, Ordering::Relaxed);
            made.push(ids.event());
        }
        let texts: Vec<String> = made.iter().map(ToString::to_string).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
        assert!(texts.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn event_ids_survive_json() {
        let id = EventId::from_number(u128::MAX);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<EventId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<EventId>("\"12\"").is_err());
    }

    #[test]
    fn an_account_id_has_one_spelling() {
        let id = Ids::seeded(Clock::system(), 7).account();
        assert_eq!(id.to_string().parse::<AccountId>().unwrap(), id);
        assert!(id.uuid().simple().to_string().parse::<AccountId>().is_err());
        assert!(format!("{{{id}}}").parse::<AccountId>().is_err());
        assert_eq!(serde_json::from_str::<AccountId>(&format!("\"{id}\"")).unwrap(), id);
        assert!(serde_json::from_str::<AccountId>(&format!("\"{}\"", id.uuid().simple())).is_err());
    }
}
