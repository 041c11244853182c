use rusqlite::{Connection, OptionalExtension, params};

use super::{EmbeddedStore, blob};
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::AccountId;
use crate::store::{Snapshot, Snapshots};

impl Snapshots for EmbeddedStore {
    async fn load_snapshots(&self, streams: &[AccountId]) -> Result<Vec<Option<Snapshot>>, BackendError> {
        let streams = streams.to_vec();
        self.database.read("load_snapshots", move |connection| load(connection, &streams)).await
    }

    async fn save_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), BackendError> {
        self.database.write("save_snapshots", move |connection| save(connection, &snapshots)).await
    }
}

fn load(connection: &Connection, streams: &[AccountId]) -> rusqlite::Result<Vec<Option<Snapshot>>> {
    let mut find = connection.prepare_cached("SELECT version, schema, state FROM snapshots WHERE stream = ?1")?;
    let mut load_one = |stream: &AccountId| {
        find.query_row([stream.as_bytes()], |row| {
            let version = Version::new(row.get(0)?);
            Ok(Snapshot { stream: *stream, version, schema: row.get(1)?, state: blob(row, 2)? })
        })
        .optional()
    };
    streams.iter().map(&mut load_one).collect()
}

fn save(connection: &Connection, snapshots: &[Snapshot]) -> rusqlite::Result<()> {
    // The same version may be replaced: a newer release writes the same state in another shape.
    let mut insert = connection.prepare_cached(
        "INSERT INTO snapshots (stream, version, schema, state) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (stream) DO UPDATE SET version = excluded.version, schema = excluded.schema, state = excluded.state
         WHERE excluded.version >= snapshots.version",
    )?;
    for Snapshot { stream, version, schema, state } in snapshots {
        insert.execute(params![stream.as_bytes(), version.get(), schema, &**state])?;
    }
    Ok(())
}
