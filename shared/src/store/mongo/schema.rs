//! How the store lies in its database.

use bytes::Bytes;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, RawDocument, Timestamp as ClusterTime, Uuid, doc};
use mongodb::options::{ClusteredIndex, IndexOptions};
use mongodb::{Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};

use super::failure::{NAMESPACE_EXISTS, has_code};
use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::event::{EncodedEvents, Recorded};
use crate::id::{AccountId, CommitId};
use crate::partition::Slot;
use crate::store::{Commit, IdempotencyKey, KeyedRequest, StoredCommit, StreamWrite};

pub(super) const EVENTS: &str = "events";
pub(super) const COMMITS: &str = "commits";
pub(super) const SNAPSHOTS: &str = "snapshots";
pub(super) const REGISTERS: &str = "registers";
const ABOUT: &str = "about";

/// Fixed, so that operators and later releases know it.
const KEY_INDEX: &str = "key_unique";

/// What this release writes and reads.
const FORMAT: i32 = 1;

/// What a stored document should have been; something else wrote it.
#[derive(Debug, thiserror::Error)]
#[error("a stored document is damaged: {0}")]
pub(super) struct Damaged(pub(super) &'static str);

/// The database's own word about itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// The layout's number.
    pub(super) format: i32,
    /// A moment of the cluster before the first commit: where a feed of everything starts.
    pub(super) start: ClusterTime,
}

/// Makes what is missing, and says what is there.
pub(super) async fn create(database: &Database, now: ClusterTime) -> mongodb::error::Result<About> {
    let clustered = ClusteredIndex::default();
    let events = database.create_collection(EVENTS).clustered_index(clustered).validator(event_rules());
    allow_existing(events.await)?;
    allow_existing(database.create_collection(COMMITS).validator(commit_rules()).await)?;
    allow_existing(database.create_collection(SNAPSHOTS).validator(snapshot_rules()).await)?;
    allow_existing(database.create_collection(REGISTERS).validator(register_rules()).await)?;
    let unique = IndexOptions::builder()
        .name(KEY_INDEX.to_owned())
        .unique(true)
        .partial_filter_expression(doc! { "key": { "$exists": true } })
        .build();
    let index = IndexModel::builder().keys(doc! { "key": 1 }).options(unique).build();
    database.collection::<CommitDocument>(COMMITS).create_index(index).await?;
    // Last, so that a database that says what it is has everything.
    let about: Collection<About> = database.collection(ABOUT);
    let first = doc! { "$setOnInsert": { "format": FORMAT, "start": now } };
    about.update_one(doc! { "_id": "store" }, first).upsert(true).await?;
    let found = about.find_one(doc! { "_id": "store" }).await?;
    Ok(found.unwrap_or(About { format: FORMAT, start: now }))
}

impl About {
    /// Whether this release understands the layout.
    pub(super) const fn is_known(&self) -> bool {
        self.format == FORMAT
    }
}

fn allow_existing(outcome: mongodb::error::Result<()>) -> mongodb::error::Result<()> {
    match outcome {
        Err(error) if has_code(&error, NAMESPACE_EXISTS) => Ok(()),
        outcome => outcome,
    }
}

fn event_rules() -> Document {
    doc! { "$jsonSchema": {
        "required": ["stream", "version", "count", "time", "events"],
        "properties": {
            "_id": { "bsonType": "binData" },
            "stream": { "bsonType": "binData" },
            "version": { "bsonType": "long", "minimum": 1 },
            "count": { "bsonType": "long", "minimum": 1 },
            "time": { "bsonType": "long" },
            "events": { "bsonType": "string" },
        },
    } }
}

fn commit_rules() -> Document {
    doc! { "$jsonSchema": {
        "required": ["time", "receipt"],
        "properties": {
            "_id": { "bsonType": "binData" },
            "time": { "bsonType": "long" },
            "key": { "bsonType": "string" },
            "request": { "bsonType": "binData" },
            "receipt": { "bsonType": "binData" },
        },
    } }
}

fn snapshot_rules() -> Document {
    doc! { "$jsonSchema": {
        "required": ["version", "schema", "state"],
        "properties": {
            "_id": { "bsonType": "binData" },
            "version": { "bsonType": "long", "minimum": 1 },
            "schema": { "bsonType": "int" },
            "state": { "bsonType": "binData" },
        },
    } }
}

fn register_rules() -> Document {
    doc! { "$jsonSchema": {
        "required": ["revision"],
        "properties": {
            "_id": { "bsonType": "string" },
            "revision": { "bsonType": "long", "minimum": 1 },
            "value": { "bsonType": "binData" },
        },
    } }
}

/// One write of a commit to one stream, as it is inserted; [`recorded`] reads it back.
#[derive(Debug, Serialize)]
pub(super) struct EventDocument {
    #[serde(rename = "_id")]
    place: Binary,
    stream: Uuid,
    version: i64,
    count: i64,
    /// Microseconds, which a BSON date does not hold.
    time: i64,
    events: String,
}

impl EventDocument {
    pub(super) fn of(commit: &Commit, write: &StreamWrite) -> Result<Self, std::str::Utf8Error> {
        let first = write.expected.next();
        Ok(Self {
            place: place(&write.stream, first),
            stream: Uuid::from_bytes(*write.stream.as_bytes()),
            version: signed(first),
            count: write.events.count.into(),
            time: commit.time.as_micros(),
            events: std::str::from_utf8(&write.events.json)?.to_owned(),
        })
    }
}

/// A stored write, read where it lies: only the events are copied.
pub(super) fn recorded(document: &RawDocument) -> Result<Recorded, Damaged> {
    let (mut stream, mut version, mut count, mut time, mut events) = (None, None, None, None, None);
    for field in document {
        let (name, value) = field.map_err(|_| Damaged("fields"))?;
        match name.as_str() {
            "stream" => stream = value.as_binary().and_then(|binary| binary.bytes.try_into().ok()),
            "version" => version = value.as_i64(),
            "count" => count = value.as_i64(),
            "time" => time = value.as_i64(),
            "events" => events = value.as_str(),
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

/// What the store remembers of a commit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CommitDocument {
    #[serde(rename = "_id")]
    id: Uuid,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Binary>,
    receipt: Binary,
}

impl CommitDocument {
    pub(super) fn of(commit: &Commit) -> Self {
        let keyed = commit.key.as_ref();
        Self {
            id: uuid(commit.id),
            time: commit.time.as_micros(),
            key: keyed.map(|keyed| keyed.key.as_str().to_owned()),
            request: keyed.map(|keyed| binary(keyed.request.to_vec())),
            receipt: binary(commit.receipt.to_vec()),
        }
    }

    pub(super) fn into_stored(self) -> Result<StoredCommit, Damaged> {
        let key = match (self.key, self.request) {
            (Some(key), Some(request)) => Some(KeyedRequest {
                key: IdempotencyKey::new(&key).map_err(|_| Damaged("key"))?,
                request: request.bytes.try_into().map_err(|_| Damaged("request"))?,
            }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(Damaged("key without request")),
        };
        Ok(StoredCommit {
            id: CommitId::from_bytes(self.id.bytes()),
            time: Timestamp::from_micros(self.time),
            key,
            receipt: Bytes::from(self.receipt.bytes),
        })
    }
}

pub(super) fn uuid(id: CommitId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) const fn binary(bytes: Vec<u8>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes }
}

/// Where a write stands in the order of (slot, stream, version): each part big-endian, so that bytes sort as numbers.
pub(super) fn place(stream: &AccountId, version: Version) -> Binary {
    let mut bytes = Vec::with_capacity(26);
    bytes.extend(Slot::of(stream).get().to_be_bytes());
    bytes.extend(stream.as_bytes());
    bytes.extend(version.get().to_be_bytes());
    binary(bytes)
}

/// A place before everything of a slot. As long as the others, because MongoDB sorts binary data by length first.
pub(super) fn slot_start(slot: u16) -> Binary {
    let mut bytes = vec![0; 26];
    bytes[..2].copy_from_slice(&slot.to_be_bytes());
    binary(bytes)
}

/// A version as BSON has it; [`Version::MAX`] fits.
pub(super) fn signed(version: Version) -> i64 {
    i64::try_from(version.get()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_sort_by_slot_then_stream_then_version() {
        let mut sorted: Vec<(u16, AccountId, u64)> = Vec::new();
        for stream in (0..50).map(|n| AccountId::from_bytes([n; 16])) {
            sorted.extend([1, 2, 255, 256, 70_000].map(|version| (Slot::of(&stream).get(), stream, version)));
        }
        sorted.sort_unstable();
        let places: Vec<Vec<u8>> =
            sorted.iter().map(|(_, stream, version)| place(stream, Version::new(*version)).bytes).collect();
        assert!(places.is_sorted_by(|one, next| one < next));
        for ((slot, ..), place) in sorted.iter().zip(&places) {
            assert!(slot_start(*slot).bytes < *place && *place < slot_start(slot + 1).bytes);
            assert_eq!(place.len(), slot_start(*slot).bytes.len());
        }
    }
}
