//! Creates and opens files, and sets up connections.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, OpenFlags, ffi};
use tracing::warn;

use super::check::{beside, check};
use super::leftover::Leftover;
use super::mover::Bounds;
use super::{Durability, FileSpec, OpenError, wal_check};

/// Small pages, because a commit of a single event touches a few scattered pages and the WAL takes each page whole.
const PAGE_BYTES: u32 = 4_096;
/// How much of a file is memory-mapped: read from the operating system's page cache without a copy.
const MAPPED_BYTES: i64 = 4 << 30;
/// Page cache of the writer, in KiB: the inner pages of large trees and the leaves being written. A larger one costs
/// more than it saves: a commit that splits a page makes SQLite look at every page of the cache, and pages that are not
/// in the cache are read from mapped memory.
const WRITER_CACHE_KIB: i32 = 16_384;
/// Page cache of a reader, in KiB: little, since it reads mapped pages.
const READER_CACHE_KIB: i32 = 4_096;
/// Page cache of the mover, in KiB: it has no use for one, since it moves pages without looking at them.
const MOVER_CACHE_KIB: i32 = 64;
/// How long a connection waits for somebody who opened the file by hand.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// More than the statements any backend has.
const STATEMENTS_CACHED: usize = 64;

/// Opens the connection that writes, and says what may be left in the WAL; creates the file first if there is none.
pub(super) fn open(file: &Path, spec: &FileSpec, bounds: Bounds) -> Result<(Connection, Leftover), OpenError> {
    let told = |reason| OpenError::Sqlite { path: file.to_path_buf(), reason };
    if !check(file, spec)? {
        make(file, spec)?;
    }
    let connection = open_to_write(file, spec.durability, WRITER_CACHE_KIB).map_err(told)?;
    let bytes_kept = bounds.pages_kept() * PAGE_BYTES;
    // The writer moves pages after its commits instead, and sees whether that succeeds (see `sync_failure`).
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(told)?;
    connection.pragma_update(None, "journal_size_limit", bytes_kept).map_err(told)?;
    let begun = begin_log_anew(&connection);
    if let Err(error) = &begun {
        warn!(file = %file.display(), %error, "cannot empty the write-ahead log, continuing with it");
    }
    let mut leftover = Leftover::of_opening(spec.durability, begun.is_ok());
    if steps_taken(&connection).map_err(told)? < spec.schema.len() {
        leftover.remove(&connection).map_err(told)?;
        take_steps(&connection, spec).map_err(told)?;
    }
    if wal_check::applies_to(spec.durability) {
        // Only a COMMIT writes frames then. Not before the steps, which may write more than fits into memory.
        connection.pragma_update(None, "cache_spill", false).map_err(told)?;
    }
    Ok((connection, leftover))
}

/// Moves all of the WAL into the file and empties it, so that the next transaction does not append to it under the same
/// salts, in front of what a transaction that was cut off or failed has left (see [`wal_check`]). An empty WAL costs
/// nothing. Waits [`BUSY_TIMEOUT`] at most for those who read it, and not at all for the mover.
pub(super) fn begin_log_anew(connection: &Connection) -> rusqlite::Result<()> {
    let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_busy {
        let reason = "somebody reads or moves the write-ahead log".to_owned();
        return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), Some(reason)));
    }
    Ok(())
}

/// A connection that moves what another one has written; it syncs as that one does.
pub(super) fn open_mover(file: &Path, spec: &FileSpec) -> rusqlite::Result<Connection> {
    open_to_write(file, spec.durability, MOVER_CACHE_KIB)
}

fn open_to_write(file: &Path, durability: Durability, cache_kib: i32) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    set_up(&connection, cache_kib)?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    Ok(connection)
}

/// A connection that reads.
pub(super) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    set_up(&connection, READER_CACHE_KIB)?;
    Ok(connection)
}

fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn set_up(connection: &Connection, cache_kib: i32) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // Otherwise SQLite plans a statement again for each value bound to it, in search of a better plan.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    leave_log_on_close(connection, true)?;
    sync_through(connection)?;
    connection.pragma_update(None, "mmap_size", MAPPED_BYTES)?;
    // SQLite reads a positive number as pages and a negative one as KiB.
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)
}

/// Has every sync wait until the disk has written what is in its own memory, which macOS does only when asked to. Other
/// systems do so anyway.
fn sync_through(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)
}

/// Whether the WAL stays as it is when this connection is closed, even as the last one. That is the rule for every
/// connection, so that only the writer removes the WAL, and only when it knows that all of it is in the file.
pub(super) fn leave_log_on_close(connection: &Connection, is_left: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_left).map(drop)
}

/// Creates the file under another name, whole and on disk, and renames it.
fn make(file: &Path, spec: &FileSpec) -> Result<(), OpenError> {
    let unfinished = beside(file, ".new");
    let told = |reason| OpenError::Sqlite { path: unfinished.clone(), reason };
    let failed = |reason| OpenError::Folder { path: file.to_path_buf(), reason };
    for suffix in ["", "-journal", "-wal", "-shm"] {
        remove_if_there(&beside(&unfinished, suffix)).map_err(failed)?;
    }
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(&unfinished, flags(access)).map_err(told)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(told)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(told)?;
    sync_through(&connection).map_err(told)?;
    connection.pragma_update(None, "application_id", spec.application_id).map_err(told)?;
    take_steps(&connection, spec).map_err(told)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(told)?;
    connection.close().map_err(|(_, reason)| told(reason))?;
    std::fs::rename(&unfinished, file).map_err(failed)?;
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Removes a file that nobody has open. Its WAL goes first: a WAL without its file is taken for damage.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    ["-wal", "-shm", ""].into_iter().try_for_each(|suffix| remove_if_there(&beside(file, suffix)))
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// How many steps of the schema the file has taken.
fn steps_taken(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Runs the steps of the schema that the file lacks, all or none.
fn take_steps(connection: &Connection, spec: &FileSpec) -> rusqlite::Result<()> {
    let taken = steps_taken(connection)?;
    let steps = connection.unchecked_transaction()?;
    for step in &spec.schema[taken..] {
        steps.execute_batch(step)?;
    }
    steps.pragma_update(None, "user_version", spec.schema.len())?;
    steps.commit()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ALWAYS_MOVING, NOTES};
    use super::*;

    /// Only macOS heeds it, but every system tells what is set.
    #[test]
    fn whoever_syncs_a_file_waits_for_the_memory_of_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(NOTES.file_name);
        let (writer, _) = open(&file, &NOTES, ALWAYS_MOVING).unwrap();
        let mover = open_mover(&file, &NOTES).unwrap();
        for connection in [writer, mover] {
            for name in ["fullfsync", "checkpoint_fullfsync"] {
                let is_set: bool = connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
                assert!(is_set, "{name}");
            }
        }
    }
}
