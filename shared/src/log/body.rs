//! Several writes as one JSON body: the content of a NATS message and of a row of `log.db`.
//!
//! A log pays for each message or row, hardly for the writes in it, so the writes of a publish are stored together, as
//! many as fit into a *part*. Both logs use the same body, so that there is one format to read.
//!
//! J1  A body reads back as it was written: the same writes in the same order, their events byte for byte.
//! J2  The parts of a batch together are the batch, in its order. None is empty, none has more than [`RECORDS_MAX`]
//!     writes, and one with several writes has a body of at most [`BODY_BYTES_MAX`] bytes.
//! J3  A body whose number of writes differs from the number noted beside it yields none of them.
//!
//! Why they hold. Events are copied into the body unchanged and sliced out of it where the JSON parser finds them (J1).
//! A part is closed by the maximum size of its writes, before any is written (J2); a test compares that with the
//! longest possible write. A body is parsed to its end before the first write is yielded (J3).

use std::fmt::Write as _;
use std::iter;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::event::{EncodedEvents, Recorded};
use crate::id::AccountId;
use crate::store::FeedEntry;

/// The most records in a part: twice a busy feed's batch for one of eight partitions.
pub(super) const RECORDS_MAX: usize = 1_000;

/// The most bytes in a body with several writes: well below the 256 KiB that a NATS server must accept, and not much to
/// read for one record of it. A lone write may be longer: the size limit of its command keeps it barely above 64 KiB.
const BODY_BYTES_MAX: usize = 160 * 1024;

/// The most bytes of a write besides its events: the field names, an id, three numbers of maximum length, and a comma,
/// or the brackets around everything.
const FRAME_BYTES_MAX: usize = 145;

/// Why bytes are not the expected body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("it holds {found} writes, {noted} were expected")]
    Count { noted: u64, found: usize },
}

/// A write in a body. The count is stored so that the events need not be parsed to number those that follow.
#[derive(Deserialize)]
struct Write<'a> {
    stream: AccountId,
    first_version: Version,
    /// When it was committed, in microseconds since 1970.
    time: i64,
    /// How many events there are.
    count: u32,
    #[serde(borrow)]
    events: &'a RawValue,
}

/// The parts of a batch (law J2).
pub(super) fn parts(batch: &[FeedEntry]) -> impl Iterator<Item = &[FeedEntry]> {
    let mut rest = batch;
    iter::from_fn(move || {
        let (part, others) = split(rest);
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

/// Splits off as many writes as fit into one part; at least one, if there is any.
fn split(batch: &[FeedEntry]) -> (&[FeedEntry], &[FeedEntry]) {
    let mut bytes = 0;
    let fits = |entry: &&FeedEntry| {
        bytes += FRAME_BYTES_MAX + entry.recorded.events.json.len();
        bytes <= BODY_BYTES_MAX
    };
    let fitting = batch.iter().take(RECORDS_MAX).take_while(fits).count();
    batch.split_at(fitting.max(1).min(batch.len()))
}

/// `[{"stream","first_version","time","count","events"}, …]`; the events are copied unchanged.
pub(super) fn write(part: &[FeedEntry]) -> Bytes {
    let events: usize = part.iter().map(|write| write.recorded.events.json.len()).sum();
    let mut body = BytesMut::with_capacity(part.len() * FRAME_BYTES_MAX + events);
    for (number, FeedEntry { recorded, .. }) in part.iter().enumerate() {
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

/// Reads back the writes of a body, which must number `noted` (law J3). The events share the bytes of the body.
pub(super) fn read(body: &Bytes, noted: u64) -> Result<impl ExactSizeIterator<Item = Recorded>, BodyError> {
    let writes: Vec<Write<'_>> = serde_json::from_slice(body)?;
    if writes.len() as u64 != noted {
        return Err(BodyError::Count { noted, found: writes.len() });
    }
    Ok(writes.into_iter().map(|write| Recorded {
        stream: write.stream,
        first_version: write.first_version,
        time: Timestamp::from_micros(write.time),
        events: EncodedEvents { count: write.count, json: body.slice_ref(write.events.get().as_bytes()) },
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

    #[test]
    fn a_body_is_read_as_it_was_written() {
        let written: Vec<Recorded> = read(&write(&two()), 2).unwrap().collect();
        assert_eq!(written, two().map(|entry| entry.recorded));
    }

    #[test]
    fn the_body_is_what_the_api_promises() {
        let body: serde_json::Value = serde_json::from_slice(&write(&two()[..1])).unwrap();
        let stream = "07070707-0707-0707-0707-070707070707";
        let events = serde_json::json!([{ "a": "ü" }, {}]);
        let time = 1_700_000_000_123_456_u64;
        let write =
            serde_json::json!({ "stream": stream, "first_version": 41, "time": time, "count": 2, "events": events });
        assert_eq!(body, serde_json::json!([write]));
    }

    #[test]
    fn a_body_that_was_cut_or_holds_another_number_of_writes_yields_none() {
        let body = write(&two());
        assert!(read(&Bytes::from_static(b"hello"), 1).is_err());
        assert!((0..body.len()).all(|end| read(&body.slice(..end), 2).is_err()));
        for noted in [0, 1, 3] {
            let refusal = read(&body, noted).err();
            assert!(matches!(refusal, Some(BodyError::Count { found: 2, .. })), "{noted}: {refusal:?}");
        }
    }

    #[test]
    fn a_batch_is_split_by_records_and_by_bytes_and_a_long_write_goes_alone() {
        let lengths = |batch: &[FeedEntry]| -> Vec<usize> {
            assert!(parts(batch).all(|part| part.len() == 1 || write(part).len() <= BODY_BYTES_MAX));
            assert_eq!(parts(batch).collect::<Vec<_>>().concat(), batch);
            parts(batch).map(<[FeedEntry]>::len).collect()
        };
        assert_eq!(lengths(&[]), [0; 0]);
        let short: Vec<FeedEntry> = (1..=2_100).map(|version| entry(version, b"[{},{}]")).collect();
        assert_eq!(lengths(&short), [1_000, 1_000, 100]);
        let mut long = short[..5].to_vec();
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
        assert_eq!(write(&[longest]).len(), FRAME_BYTES_MAX + "[]".len());
    }
}
