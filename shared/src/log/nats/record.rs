//! A write as a message: the body is JSON for any reader, the headers hold what stands beside it.

use async_nats::HeaderMap;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::event::{EncodedEvents, Recorded};
use crate::id::AccountId;
use crate::log::Incarnation;

/// The life a message belongs to.
pub(super) const INCARNATION: &str = "Bank-Incarnation";
/// When the write was committed, as in the events.
const TIME: &str = "Bank-Time";
/// How many events the body holds.
const EVENTS: &str = "Bank-Events";

/// What the body holds beside the events, with room to spare.
const FRAME_BYTES: usize = 128;

/// Why a message is no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRecord {
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    #[error(transparent)]
    Body(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Body<'a> {
    stream: AccountId,
    first_version: Version,
    #[serde(borrow)]
    events: &'a RawValue,
}

/// `{"stream","first_version","events"}`; the events are taken as they are.
pub(super) fn body(recorded: &Recorded) -> Bytes {
    let mut body = BytesMut::with_capacity(FRAME_BYTES + recorded.events.json.len());
    let frame =
        format!("{{\"stream\":\"{}\",\"first_version\":{},\"events\":", recorded.stream, recorded.first_version.get());
    body.put_slice(frame.as_bytes());
    body.put_slice(&recorded.events.json);
    body.put_u8(b'}');
    body.freeze()
}

/// The id of a write that takes this sequence of its stream.
pub(super) fn id(recorded: &Recorded, sequence: u64) -> String {
    format!("{}/{}/{sequence}", recorded.stream, recorded.first_version.get())
}

/// The headers of a write with this id.
pub(super) fn headers(recorded: &Recorded, life: &Incarnation, id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(INCARNATION, &*life.0);
    headers.insert(TIME, recorded.time.as_micros().to_string().as_str());
    headers.insert(EVENTS, recorded.events.count.to_string().as_str());
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    headers
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, NoRecord> {
    headers.get(name).map(async_nats::HeaderValue::as_str).ok_or(NoRecord::Header(name))
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &'static str) -> Result<T, NoRecord> {
    header(headers, name)?.parse().map_err(|_| NoRecord::Header(name))
}

/// Reads a message back. The events share the bytes of the body.
pub(super) fn recorded(headers: &HeaderMap, payload: &Bytes) -> Result<Recorded, NoRecord> {
    let body: Body<'_> = serde_json::from_slice(payload)?;
    Ok(Recorded {
        stream: body.stream,
        first_version: body.first_version,
        time: Timestamp::from_micros(number(headers, TIME)?),
        events: EncodedEvents {
            count: number(headers, EVENTS)?,
            json: payload.slice_ref(body.events.get().as_bytes()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write() -> Recorded {
        Recorded {
            stream: AccountId::from_bytes([7; 16]),
            first_version: Version::new(41),
            time: Timestamp::from_micros(1_700_000_000_123_456),
            events: EncodedEvents { count: 2, json: Bytes::from_static(br#"[{"a":"\u00fc"}, {}]"#) },
        }
    }

    fn headers_of(write: &Recorded) -> HeaderMap {
        headers(write, &Incarnation("a".into()), &id(write, 12))
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let write = write();
        assert_eq!(recorded(&headers_of(&write), &body(&write)).unwrap(), write);
    }

    #[test]
    fn the_body_is_what_the_api_promises() {
        let body: serde_json::Value = serde_json::from_slice(&body(&write())).unwrap();
        let stream = "07070707-0707-0707-0707-070707070707";
        let events = serde_json::json!([{ "a": "ü" }, {}]);
        assert_eq!(body, serde_json::json!({ "stream": stream, "first_version": 41, "events": events }));
    }

    #[test]
    fn a_foreign_message_is_no_record() {
        assert!(recorded(&headers_of(&write()), &Bytes::from_static(b"hello")).is_err());
        assert!(recorded(&HeaderMap::new(), &body(&write())).is_err());
    }
}
