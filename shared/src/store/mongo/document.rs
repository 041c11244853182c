//! A write as it is stored in the collection of events.
//!
//! The first write of a commit carries what the store keeps of the commit: its id, receipt, key and request. So a
//! commit to one stream is one document, which exists or does not, and needs no transaction.

use std::str::{Utf8Error, from_utf8};

use bytes::Bytes;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Document, RawBinaryRef, RawDocument, RawDocumentBuf, cstr, doc};

use super::schema::{place, signed};
use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::event::{EncodedEvents, Recorded};
use crate::id::{AccountId, CommitId};
use crate::store::{Commit, IdempotencyKey, KeyedRequest, StoredCommit, StreamWrite};

/// The part of a stored document that is not as the store writes it: something else wrote it.
#[derive(Debug, thiserror::Error)]
#[error("a stored document is damaged: {0}")]
pub(super) struct Damaged(pub(super) &'static str);

/// The documents of a commit, one for each write.
pub(super) fn documents(commit: &Commit) -> Result<Vec<RawDocumentBuf>, Utf8Error> {
    let mut documents = commit.writes.iter().map(|write| event(commit, write)).collect::<Result<Vec<_>, _>>()?;
    if let Some(first) = documents.first_mut() {
        remember(commit, first);
    }
    Ok(documents)
}

fn event(commit: &Commit, write: &StreamWrite) -> Result<RawDocumentBuf, Utf8Error> {
    let first = write.expected.next();
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), place(&write.stream, first));
    document.append(cstr!("stream"), uuid(write.stream.as_bytes()));
    document.append(cstr!("version"), signed(first));
    document.append(cstr!("count"), i64::from(write.events.count));
    // Microseconds, which a BSON date cannot hold.
    document.append(cstr!("time"), commit.time.as_micros());
    document.append(cstr!("events"), from_utf8(&write.events.json)?);
    Ok(document)
}

fn remember(commit: &Commit, document: &mut RawDocumentBuf) {
    document.append(cstr!("commit"), uuid(commit.id.as_bytes()));
    document.append(cstr!("receipt"), generic(&commit.receipt));
    if let Some(keyed) = &commit.key {
        document.append(cstr!("key"), keyed.key.as_str());
        document.append(cstr!("request"), generic(&keyed.request));
    }
}

const fn uuid(bytes: &[u8]) -> RawBinaryRef<'_> {
    RawBinaryRef { subtype: BinarySubtype::Uuid, bytes }
}

const fn generic(bytes: &[u8]) -> RawBinaryRef<'_> {
    RawBinaryRef { subtype: BinarySubtype::Generic, bytes }
}

/// A stored write, read in place: only the events are copied.
pub(super) fn recorded(document: &RawDocument) -> Result<Recorded, Damaged> {
    let (mut stream, mut version, mut count, mut time, mut events) = (None, None, None, None, None);
    for field in document {
        let (name, value) = field.map_err(|_| Damaged("fields"))?;
        match name.as_str() {
            "stream" => stream = value.as_binary().and_then(|binary| binary.bytes.try_into().ok()),
            "version" => version = value.as_i64(),
            "count" => count = value.as_i64(),
            "time" => time = value.as_i64(),
            "events" => {
                events = value.as_str();
                // No later field belongs to the write.
                break;
            }
            _ => {}
        }
    }
    rebuilt(
        stream.ok_or(Damaged("stream"))?,
        version.ok_or(Damaged("version"))?,
        count.ok_or(Damaged("count"))?,
        time.ok_or(Damaged("time"))?,
        Bytes::copy_from_slice(events.ok_or(Damaged("events"))?.as_bytes()),
    )
}

fn rebuilt(stream: [u8; 16], version: i64, count: i64, time: i64, json: Bytes) -> Result<Recorded, Damaged> {
    let count = u32::try_from(count).ok().filter(|count| *count > 0).ok_or(Damaged("count"))?;
    Ok(Recorded {
        stream: AccountId::from_bytes(stream),
        first_version: Version::new(u64::try_from(version).map_err(|_| Damaged("version"))?),
        time: Timestamp::from_micros(time),
        events: EncodedEvents { count, json },
    })
}

/// The fields that [`head`] reads.
pub(super) fn head_fields() -> Document {
    doc! { "_id": 0, "stream": 1, "version": 1, "count": 1 }
}

/// The stream of a stored write, and the last version of the write.
pub(super) fn head(document: &RawDocument) -> Result<(AccountId, Version), Damaged> {
    let stream = document.get_binary("stream").map_err(|_| Damaged("stream"))?;
    let stream = stream.bytes.try_into().map_err(|_| Damaged("stream"))?;
    let number = |field: &'static str| document.get_i64(field).map_err(|_| Damaged(field));
    let last = u64::try_from(number("version")? + number("count")? - 1).map_err(|_| Damaged("version"))?;
    Ok((AccountId::from_bytes(stream), Version::new(last)))
}

/// The fields that [`stored`] reads.
pub(super) fn stored_fields() -> Document {
    doc! { "_id": 0, "commit": 1, "time": 1, "receipt": 1, "key": 1, "request": 1 }
}

/// What the document of a first write keeps of its commit.
pub(super) fn stored(document: &RawDocument) -> Result<StoredCommit, Damaged> {
    let bytes = |field: &'static str| document.get_binary(field).map(|binary| binary.bytes).map_err(|_| Damaged(field));
    let key = match document.get("key").map_err(|_| Damaged("key"))? {
        None => None,
        Some(key) => {
            let key = key.as_str().and_then(|key| IdempotencyKey::new(key).ok()).ok_or(Damaged("key"))?;
            Some(KeyedRequest { key, request: bytes("request")?.try_into().map_err(|_| Damaged("request"))? })
        }
    };
    Ok(StoredCommit {
        id: CommitId::from_bytes(bytes("commit")?.try_into().map_err(|_| Damaged("commit"))?),
        time: Timestamp::from_micros(document.get_i64("time").map_err(|_| Damaged("time"))?),
        key,
        receipt: Bytes::copy_from_slice(bytes("receipt")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(key: Option<KeyedRequest>) -> Commit {
        let write = |stream: u8, count: u32| StreamWrite {
            stream: AccountId::from_bytes([stream; 16]),
            expected: Version::new(7),
            events: EncodedEvents { count, json: Bytes::from_static(br#"[{"a":"\u00fc"}]"#) },
        };
        let (id, time) = (CommitId::from_bytes([9; 16]), Timestamp::from_micros(1_700_000_000_123_456));
        Commit { id, time, key, receipt: Bytes::from_static(b"{}"), writes: vec![write(1, 2), write(2, 1)] }
    }

    #[test]
    fn a_commit_is_read_as_it_was_written_and_remembered_once() {
        let key = KeyedRequest { key: IdempotencyKey::new("once").unwrap(), request: [3; 32] };
        for key in [None, Some(key)] {
            let commit = commit(key);
            let documents = documents(&commit).unwrap();
            for (document, write) in documents.iter().zip(&commit.writes) {
                let read = recorded(document).unwrap();
                assert_eq!((read.stream, read.time, &read.events), (write.stream, commit.time, &write.events));
                assert_eq!(read.first_version, write.expected.next());
                assert_eq!(head(document).unwrap(), (write.stream, read.last_version()));
            }
            let Commit { id, time, key, receipt, .. } = commit;
            assert_eq!(stored(&documents[0]).unwrap(), StoredCommit { id, time, key, receipt });
            assert!(documents[1].get("commit").unwrap().is_none(), "its index would refuse a second one");
            assert!(documents[1].get("key").unwrap().is_none());
        }
    }

    #[test]
    fn a_document_of_something_else_is_damaged() {
        let foreign = RawDocumentBuf::try_from(&doc! { "_id": 1, "money": 1_000_000 }).unwrap();
        assert!(recorded(&foreign).is_err() && head(&foreign).is_err() && stored(&foreign).is_err());
    }
}
