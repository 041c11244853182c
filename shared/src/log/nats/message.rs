//! Several writes as a message: the body is JSON for any reader, the headers say which records of which life it holds.

use std::fmt::Write as _;

use async_nats::HeaderMap;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::coordinate::{Offset, Version};
use crate::event::{EncodedEvents, Recorded};
use crate::id::AccountId;
use crate::log::Incarnation;
use crate::store::FeedEntry;

/// The life a message belongs to.
pub(super) const INCARNATION: &str = "Bank-Incarnation";
/// The offset of its first record.
const OFFSET: &str = "Bank-Offset";
/// How many records it holds.
const RECORDS: &str = "Bank-Records";

/// How many records a message holds at most: a busy feed's batch for one of eight partitions, twice.
const RECORDS_MAX: usize = 1_000;

/// How long a body with several writes is at most, well below what a server has to take
/// ([`super::connect::PAYLOAD_BYTES_MIN`]). A write alone may be longer: by its command it is hardly above 64 KiB.
const BODY_BYTES_MAX: usize = 160 * 1024;

/// What a body holds at most for a write beside its events: the names, an id, three numbers as long as they can be, and
/// a comma, or the brackets around all.
const FRAME_BYTES_MAX: usize = 145;

/// Why a message is no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRecord {
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    #[error(transparent)]
    Body(#[from] serde_json::Error),
    #[error("it holds {found} writes where {noted} were noted")]
    Count { noted: u64, found: usize },
}

/// Which records a message holds; one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Offset,
    pub(super) last: Offset,
}

/// A write in a body. The count stands there so that nobody has to read the events to number what follows them.
#[derive(Deserialize)]
struct Write<'a> {
    stream: AccountId,
    first_version: Version,
    /// In microseconds since 1970, when it was committed.
    time: i64,
    /// How many events there are.
    count: u32,
    #[serde(borrow)]
    events: &'a RawValue,
}

/// Splits off as many writes as fit into one message; one at least, if there is one.
pub(super) fn split(batch: &[FeedEntry]) -> (&[FeedEntry], &[FeedEntry]) {
    let mut bytes = 0;
    let fits = |entry: &&FeedEntry| {
        bytes += FRAME_BYTES_MAX + entry.recorded.events.json.len();
        bytes <= BODY_BYTES_MAX
    };
    let fitting = batch.iter().take(RECORDS_MAX).take_while(fits).count();
    batch.split_at(fitting.max(1).min(batch.len()))
}

/// `[{"stream","first_version","time","count","events"}, …]`; the events are taken as they are.
pub(super) fn body(writes: &[FeedEntry]) -> Bytes {
    let events: usize = writes.iter().map(|write| write.recorded.events.json.len()).sum();
    let mut body = BytesMut::with_capacity(writes.len() * FRAME_BYTES_MAX + events);
    for (number, FeedEntry { recorded, .. }) in writes.iter().enumerate() {
        body.put_u8(if number == 0 { b'[' } else { b',' });
        let Recorded { stream, first_version, time, events } = recorded;
        let frame = format_args!(
            r#"{{"stream":"{stream}","first_version":{},"time":{},"count":{},"events":"#,
            first_version.get(),
            time.as_micros(),
            events.count,
        );
        body.write_fmt(frame).expect("a buffer grows");
        body.put_slice(&events.json);
        body.put_u8(b'}');
    }
    body.put_u8(b']');
    body.freeze()
}

/// The headers of so many writes behind an offset of a life.
pub(super) fn headers(life: &Incarnation, after: Offset, writes: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(INCARNATION, &*life.0);
    headers.insert(OFFSET, after.next().get().to_string().as_str());
    headers.insert(RECORDS, writes.to_string().as_str());
    headers
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, NoRecord> {
    headers.get(name).map(async_nats::HeaderValue::as_str).ok_or(NoRecord::Header(name))
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<u64, NoRecord> {
    header(headers, name)?.parse().map_err(|_| NoRecord::Header(name))
}

/// Which records the headers say a message holds.
pub(super) fn span(headers: &HeaderMap) -> Result<Span, NoRecord> {
    let first = number(headers, OFFSET)?;
    let others = number(headers, RECORDS)?.checked_sub(1).ok_or(NoRecord::Header(RECORDS))?;
    let last = first.checked_add(others).ok_or(NoRecord::Header(RECORDS))?;
    Ok(Span { first: Offset::new(first), last: Offset::new(last) })
}

/// Reads the writes of a body back, as many as its headers say. The events share the bytes of the body.
pub(super) fn writes(span: Span, payload: &Bytes) -> Result<impl Iterator<Item = Recorded>, NoRecord> {
    let writes: Vec<Write<'_>> = serde_json::from_slice(payload)?;
    let noted = span.last.get() - span.first.get() + 1;
    if writes.len() as u64 != noted {
        return Err(NoRecord::Count { noted, found: writes.len() });
    }
    Ok(writes.into_iter().map(|write| Recorded {
        stream: write.stream,
        first_version: write.first_version,
        time: Timestamp::from_micros(write.time),
        events: EncodedEvents { count: write.count, json: payload.slice_ref(write.events.get().as_bytes()) },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinate::Position;

    fn entry(version: u64, json: &'static [u8]) -> FeedEntry {
        let recorded = Recorded {
            stream: AccountId::from_bytes([7; 16]),
            first_version: Version::new(version),
            time: Timestamp::from_micros(1_700_000_000_123_456),
            events: EncodedEvents { count: 2, json: Bytes::from_static(json) },
        };
        FeedEntry { position: Position::Number(version), recorded }
    }

    fn two() -> [FeedEntry; 2] {
        [entry(41, br#"[{"a":"\u00fc"}, {}]"#), entry(43, b"[{},{}]")]
    }

    fn headers_of(writes: usize) -> HeaderMap {
        headers(&Incarnation("a".into()), Offset::new(11), writes)
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let span = span(&headers_of(2)).unwrap();
        assert_eq!(span, Span { first: Offset::new(12), last: Offset::new(13) });
        let read: Vec<Recorded> = writes(span, &body(&two())).unwrap().collect();
        assert_eq!(read, two().map(|entry| entry.recorded));
    }

    #[test]
    fn the_body_is_what_the_api_promises() {
        let body: serde_json::Value = serde_json::from_slice(&body(&two()[..1])).unwrap();
        let stream = "07070707-0707-0707-0707-070707070707";
        let events = serde_json::json!([{ "a": "ü" }, {}]);
        let time = 1_700_000_000_123_456_u64;
        let write =
            serde_json::json!({ "stream": stream, "first_version": 41, "time": time, "count": 2, "events": events });
        assert_eq!(body, serde_json::json!([write]));
    }

    #[test]
    fn a_foreign_message_is_no_record() {
        assert!(span(&HeaderMap::new()).is_err() && span(&headers_of(0)).is_err());
        let [one, two_of_them] = [1, 2].map(|count| span(&headers_of(count)).unwrap());
        assert!(writes(one, &Bytes::from_static(b"hello")).is_err());
        assert!(matches!(writes(one, &body(&two())).err(), Some(NoRecord::Count { noted: 1, found: 2 })));
        assert!(writes(two_of_them, &body(&two())).is_ok());
    }

    #[test]
    fn a_batch_is_split_by_records_and_by_bytes_and_a_long_write_goes_alone() {
        let lengths = |batch: &[FeedEntry]| {
            let (mut rest, mut lengths) = (batch, Vec::new());
            while !rest.is_empty() {
                let (part, others) = split(rest);
                assert!(part.len() == 1 || body(part).len() <= BODY_BYTES_MAX);
                lengths.push(part.len());
                rest = others;
            }
            lengths
        };
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&vec![entry(1, b"[{},{}]"); 2_100]), [1_000, 1_000, 100]);
        let mut long = vec![entry(1, b"[{},{}]"); 5];
        long[2].recorded.events.json = Bytes::from(vec![b' '; BODY_BYTES_MAX]);
        assert_eq!(lengths(&long), [2, 1, 2]);
        for write in &mut long {
            write.recorded.events.json = Bytes::from(vec![b' '; BODY_BYTES_MAX / 2 - FRAME_BYTES_MAX]);
        }
        assert_eq!(lengths(&long), [2, 2, 1]);
    }

    /// The longest numbers there are.
    #[test]
    fn a_write_takes_no_more_beside_its_events_than_is_reckoned_with() {
        let mut longest = entry(u64::MAX, b"[]");
        longest.recorded.time = Timestamp::from_micros(i64::MIN);
        longest.recorded.events.count = u32::MAX;
        assert_eq!(body(&[longest]).len(), FRAME_BYTES_MAX + "[]".len());
    }
}
