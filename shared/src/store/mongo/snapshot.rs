use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use mongodb::bson::{Binary, Document, Uuid, doc};
use mongodb::options::ReadConcern;
use serde::{Deserialize, Serialize};

use super::MongoStore;
use super::failure::{of_write, read, write};
use super::schema::{SNAPSHOTS, binary, signed};
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::AccountId;
use crate::store::{Snapshot, Snapshots};

/// How many snapshots one command saves: a few megabytes, far below the server's limit.
const SNAPSHOTS_A_COMMAND: usize = 1_000;

#[derive(Debug, Serialize, Deserialize)]
struct SnapshotDocument {
    #[serde(rename = "_id")]
    stream: Uuid,
    version: i64,
    schema: i32,
    state: Binary,
}

impl SnapshotDocument {
    /// `None` for a document that no release writes: a snapshot that is not understood counts as missing.
    fn into_snapshot(self) -> Option<Snapshot> {
        Some(Snapshot {
            stream: AccountId::from_bytes(self.stream.bytes()),
            version: Version::new(self.version.try_into().ok()?),
            schema: self.schema.try_into().ok()?,
            state: Bytes::from(self.state.bytes),
        })
    }
}

/// A cache: writes wait for neither journal nor majority, and losing some in a failover costs only time (law SN2).
impl Snapshots for MongoStore {
    async fn load_snapshots(&self, streams: &[AccountId]) -> Result<Vec<Option<Snapshot>>, BackendError> {
        if streams.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = streams.iter().map(|stream| Uuid::from_bytes(*stream.as_bytes())).collect();
        let snapshots = self.database.collection::<SnapshotDocument>(SNAPSHOTS);
        let load = async {
            let filter = doc! { "_id": { "$in": ids } };
            snapshots.find(filter).read_concern(ReadConcern::local()).await?.try_collect::<Vec<_>>().await
        };
        let found = read("load_snapshots", Box::pin(load)).await?;
        let found: BTreeMap<AccountId, Snapshot> = found
            .into_iter()
            .filter_map(SnapshotDocument::into_snapshot)
            .map(|snapshot| (snapshot.stream, snapshot))
            .collect();
        Ok(streams.iter().map(|stream| found.get(stream).cloned()).collect())
    }

    async fn save_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), BackendError> {
        let mut newest: BTreeMap<AccountId, Snapshot> = BTreeMap::new();
        for snapshot in snapshots {
            if newest.get(&snapshot.stream).is_none_or(|kept| kept.version <= snapshot.version) {
                newest.insert(snapshot.stream, snapshot);
            }
        }
        let updates: Vec<Document> = newest.values().map(update).collect();
        for chunk in updates.chunks(SNAPSHOTS_A_COMMAND) {
            // An update is refused if there is a newer snapshot; the command does not fail for it.
            let command = doc! {
                "update": SNAPSHOTS,
                "updates": chunk,
                "ordered": false,
                "writeConcern": { "w": 1 },
            };
            let saved = write("save_snapshots", Box::pin(async { self.database.run_command(command).await })).await?;
            saved.map_err(|error| of_write("save_snapshots", error))?;
        }
        Ok(())
    }
}

/// Replaces an older snapshot or inserts the first; collides with a newer one.
fn update(snapshot: &Snapshot) -> Document {
    let stream = Uuid::from_bytes(*snapshot.stream.as_bytes());
    let version = signed(snapshot.version);
    doc! {
        "q": { "_id": stream, "version": { "$lte": version } },
        "u": { "$set": {
            "version": version,
            "schema": i32::from(snapshot.schema),
            "state": binary(snapshot.state.to_vec()),
        } },
        "upsert": true,
    }
}
