//! The layout of the store in its database.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, Timestamp as ClusterTime, Uuid, doc};
use mongodb::options::{ClusteredIndex, IndexOptions};
use mongodb::{Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};

use super::failure::{NAMESPACE_EXISTS, has_code};
use crate::coordinate::Version;
use crate::id::{AccountId, CommitId};
use crate::partition::Slot;

pub(super) const EVENTS: &str = "events";
pub(super) const SNAPSHOTS: &str = "snapshots";
pub(super) const REGISTERS: &str = "registers";
const ABOUT: &str = "about";

/// The secondary indexes, by the field that is unique; their names are fixed, so that operators and later releases know
/// them.
const UNIQUE: [(&str, &str); 2] = [("commit", "commit_unique"), ("key", "key_unique")];

/// The layout this release writes and reads. Layout 1 kept commits in a collection of their own.
const FORMAT: i32 = 2;

/// The database's description of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// The layout's number.
    pub(super) format: i32,
    /// A moment of the cluster before the first commit: where a feed of everything starts.
    pub(super) start: ClusterTime,
}

/// Creates what is missing, and returns what is there. A database of another layout is left alone.
pub(super) async fn create(database: &Database, now: ClusterTime) -> mongodb::error::Result<About> {
    let about: Collection<About> = database.collection(ABOUT);
    if let Some(other) = about.find_one(doc! { "_id": "store" }).await?.filter(|about| !about.is_known()) {
        return Ok(other);
    }
    let clustered = ClusteredIndex::default();
    let events = database.create_collection(EVENTS).clustered_index(clustered).validator(event_rules());
    allow_existing(events.await)?;
    allow_existing(database.create_collection(SNAPSHOTS).validator(snapshot_rules()).await)?;
    allow_existing(database.create_collection(REGISTERS).validator(register_rules()).await)?;
    database.collection::<Document>(EVENTS).create_indexes(UNIQUE.map(unique)).await?;
    // Last, so that a database with a description has everything else.
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

/// A unique index over the documents that have the field.
fn unique((field, name): (&str, &str)) -> IndexModel {
    let unique = IndexOptions::builder()
        .name(name.to_owned())
        .unique(true)
        .partial_filter_expression(doc! { field: { "$exists": true } })
        .build();
    IndexModel::builder().keys(doc! { field: 1 }).options(unique).build()
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
            "commit": { "bsonType": "binData" },
            "receipt": { "bsonType": "binData" },
            "key": { "bsonType": "string" },
            "request": { "bsonType": "binData" },
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

pub(super) fn uuid(id: CommitId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) const fn binary(bytes: Vec<u8>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes }
}

/// The place of a write in the order of (slot, stream, version): each part big-endian, so that bytes sort like numbers.
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

/// A version as a BSON integer; [`Version::MAX`] fits.
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
