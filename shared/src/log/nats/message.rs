//! Several writes as a message: the body is that of [`crate::log::body`], the headers say which records of which
//! incarnation it holds.

use async_nats::HeaderMap;

use crate::coordinate::Offset;
use crate::log::Incarnation;
use crate::log::body::BodyError;

/// The incarnation a message belongs to.
pub(super) const INCARNATION: &str = "Bank-Incarnation";
/// The offset of its first record.
const OFFSET: &str = "Bank-Offset";
/// How many records it holds.
const RECORDS: &str = "Bank-Records";

/// Why a message holds no records.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRecord {
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// Which records a message holds; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Offset,
    pub(super) last: Offset,
}

impl Span {
    /// How many they are.
    pub(super) const fn records(self) -> u64 {
        self.last.get() - self.first.get() + 1
    }
}

/// The headers of a message with this many writes after an offset of an incarnation.
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

/// Which records a message holds, by its headers.
pub(super) fn span(headers: &HeaderMap) -> Result<Span, NoRecord> {
    let first = number(headers, OFFSET)?;
    let others = number(headers, RECORDS)?.checked_sub(1).ok_or(NoRecord::Header(RECORDS))?;
    let last = first.checked_add(others).ok_or(NoRecord::Header(RECORDS))?;
    Ok(Span { first: Offset::new(first), last: Offset::new(last) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers_of(writes: usize) -> HeaderMap {
        headers(&Incarnation("a".into()), Offset::new(11), writes)
    }

    #[test]
    fn the_headers_say_which_records_a_message_holds() {
        let span = span(&headers_of(2)).unwrap();
        assert_eq!(span, Span { first: Offset::new(12), last: Offset::new(13) });
        assert_eq!(span.records(), 2);
    }

    #[test]
    fn a_foreign_message_is_no_record() {
        assert!(span(&HeaderMap::new()).is_err() && span(&headers_of(0)).is_err());
    }
}
