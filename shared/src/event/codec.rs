//! Events as JSON, for ever: this module reads events of every schema ever released.
//!
//! C1  `decode(encode(events)) == events`.
//! C2  Every file in `shared/golden/` decodes to the event written beside it, in every later release.
//! C3  An unknown type or schema is an error that names it, never a guess: the account that holds it is parked.
//!
//! An older shape is upcast while it is read: [`decode`] knows each pair of type and schema number.

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{AccountEvent, EncodedEvents, NewEvent, Personal};
use crate::clock::Timestamp;
use crate::id::{AccountId, CommitId, EventId};
use crate::money::{Amount, Currency, Money};
use crate::owner::Owner;

/// The approximate length of an event as JSON; longer events make the buffer grow.
const EVENT_BYTES: usize = 256;

/// Why stored events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer release or another program wrote it.
    #[error("event type {type_name} in schema {schema} is unknown to this release: upgrade")]
    Unknown {
        /// The type's name as stored.
        type_name: String,
        /// The schema number as stored.
        schema: u16,
    },
    /// Not the expected JSON.
    #[error("the stored events are malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The number of events differs from the one noted beside them.
    #[error("{found} events found, {noted} expected")]
    Count {
        /// How many were noted.
        noted: u32,
        /// How many there are.
        found: usize,
    },
}

#[derive(Serialize)]
struct WrittenEnvelope<'a> {
    id: EventId,
    #[serde(rename = "type")]
    type_name: &'static str,
    schema: u16,
    time: Timestamp,
    data: &'a AccountEvent,
}

#[derive(Deserialize)]
struct ReadEnvelope<'a> {
    id: EventId,
    #[serde(rename = "type", borrow)]
    type_name: std::borrow::Cow<'a, str>,
    schema: u16,
    time: Timestamp,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Writes events in today's shapes.
///
/// # Panics
/// When there is no event, or 2^32 and more: a commit holds a handful.
#[must_use]
pub fn encode(events: &[NewEvent]) -> EncodedEvents {
    assert!(!events.is_empty(), "a stream write holds at least one event");
    let envelopes = events.iter().map(|new| WrittenEnvelope {
        id: new.id,
        type_name: new.event.type_name(),
        schema: new.event.schema(),
        time: new.time,
        data: &new.event,
    });
    let mut json = Vec::with_capacity(events.len() * EVENT_BYTES);
    serde_json::Serializer::new(&mut json)
        .collect_seq(envelopes)
        .expect("events have no maps and so always become JSON");
    EncodedEvents {
        count: u32::try_from(events.len()).expect("a commit holds a handful of events"),
        json: Bytes::from(json),
    }
}

/// Reads events of any schema ever released.
///
/// # Errors
/// [`DecodeError`] if any of them cannot be read: a fold takes a commit whole or not at all.
pub fn decode(encoded: &EncodedEvents) -> Result<Vec<NewEvent>, DecodeError> {
    let envelopes: Vec<ReadEnvelope<'_>> = serde_json::from_slice(&encoded.json)?;
    if u32::try_from(envelopes.len()) != Ok(encoded.count) {
        return Err(DecodeError::Count { noted: encoded.count, found: envelopes.len() });
    }
    envelopes
        .into_iter()
        .map(|envelope| Ok(NewEvent { id: envelope.id, time: envelope.time, event: upcast(&envelope)? }))
        .collect()
}

fn upcast(envelope: &ReadEnvelope<'_>) -> Result<AccountEvent, DecodeError> {
    let data = envelope.data.get();
    let event = match (&*envelope.type_name, envelope.schema) {
        ("AccountOpened", 1) => serde_json::from_str::<OpenedV1>(data)?.into(),
        ("AccountOpened", 2) => serde_json::from_str::<Opened>(data)?.into(),
        ("MoneyDeposited", 1) => {
            let Moved { transaction, amount } = serde_json::from_str(data)?;
            AccountEvent::MoneyDeposited { transaction, amount }
        }
        ("MoneyWithdrawn", 1) => {
            let Moved { transaction, amount } = serde_json::from_str(data)?;
            AccountEvent::MoneyWithdrawn { transaction, amount }
        }
        ("TransferSent", 1) => {
            let Sent { transaction, to, amount } = serde_json::from_str(data)?;
            AccountEvent::TransferSent { transaction, to, amount }
        }
        ("TransferReceived", 1) => {
            let Received { transaction, from, amount } = serde_json::from_str(data)?;
            AccountEvent::TransferReceived { transaction, from, amount }
        }
        ("OwnerRenamed", 1) => {
            let Renamed { personal } = serde_json::from_str(data)?;
            AccountEvent::OwnerRenamed { personal }
        }
        ("AccountClosed", 1) => AccountEvent::AccountClosed {},
        (type_name, schema) => {
            return Err(DecodeError::Unknown { type_name: type_name.to_owned(), schema });
        }
    };
    Ok(event)
}

/// The shape of the first draft: one currency, no overdraft, the owner among the other fields.
#[derive(Deserialize)]
struct OpenedV1 {
    owner: Owner,
    money: Money,
}

impl From<OpenedV1> for AccountEvent {
    fn from(v1: OpenedV1) -> Self {
        Self::AccountOpened {
            currency: "EUR".parse().expect("EUR is a currency"),
            overdraft_limit: Money::ZERO,
            opening: v1.money,
            personal: Personal { owner: v1.owner },
        }
    }
}

#[derive(Deserialize)]
struct Opened {
    currency: Currency,
    overdraft_limit: Money,
    opening: Money,
    personal: Personal,
}

impl From<Opened> for AccountEvent {
    fn from(Opened { currency, overdraft_limit, opening, personal }: Opened) -> Self {
        Self::AccountOpened { currency, overdraft_limit, opening, personal }
    }
}

#[derive(Deserialize)]
struct Moved {
    transaction: CommitId,
    amount: Amount,
}

#[derive(Deserialize)]
struct Sent {
    transaction: CommitId,
    to: AccountId,
    amount: Amount,
}

#[derive(Deserialize)]
struct Received {
    transaction: CommitId,
    from: AccountId,
    amount: Amount,
}

#[derive(Deserialize)]
struct Renamed {
    personal: Personal,
}
