//! Checks a file before anything may change it (law Q4).
//!
//! The header is read without SQLite, since SQLite would move a foreign file's write-ahead log into it on closing. A
//! file of ours is then checked through a connection that cannot write.
//!
//! How deep the check goes: always header, schema and length; every page of a file up to [`CHECKED_BYTES_MAX`]. A
//! larger one is not read through at every start: a read that meets damage deep inside it fails.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::failure::of_opening;
use super::{FileSpec, OpenError, wal_check};

/// Files up to this size are checked page by page when they are opened: about a quarter of a second at most.
const CHECKED_BYTES_MAX: u64 = 64 << 20;

const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const APPLICATION_ID_AT: usize = 68;

/// Whether the file exists; an error if it exists and must be refused.
pub(super) fn check(file: &Path, spec: &FileSpec) -> Result<bool, OpenError> {
    let damaged = |finding: &str| OpenError::Damaged { path: file.to_path_buf(), finding: finding.to_owned() };
    let failed = |reason| OpenError::Folder { path: file.to_path_buf(), reason };
    let Some(header) = header(file).map_err(failed)? else {
        // A WAL without its file would be taken for that of the new file.
        if header(&beside(file, "-wal")).map_err(failed)?.is_some_and(|log| !log.is_empty()) {
            return Err(damaged("the file is missing, but its write-ahead log is there"));
        }
        return Ok(false);
    };
    if header.is_empty() {
        return Err(damaged("it is empty"));
    }
    if !header.starts_with(MAGIC) || header.len() < HEADER_BYTES {
        return Err(damaged("it does not begin with the header of a SQLite file"));
    }
    if header[APPLICATION_ID_AT..APPLICATION_ID_AT + 4] != spec.application_id.to_be_bytes() {
        return Err(OpenError::Foreign { path: file.to_path_buf() });
    }
    if wal_check::applies_to(spec.durability) && wal_check::is_damaged(&beside(file, "-wal")).map_err(failed)? {
        return Err(damaged("its write-ahead log has lost transactions"));
    }
    look_inside(file, spec)?;
    Ok(true)
}

/// Another file of the same database.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn header(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut header = Vec::with_capacity(HEADER_BYTES);
    opened.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    Ok(Some(header))
}

fn look_inside(file: &Path, spec: &FileSpec) -> Result<(), OpenError> {
    let told = |error| of_opening(file.to_path_buf(), error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags).map_err(told)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(told)?;
    if usize::try_from(found).is_ok_and(|found| found > spec.schema.len()) {
        return Err(OpenError::Newer { path: file.to_path_buf(), found, known: spec.schema.len() });
    }
    // Reading the schema also makes SQLite compare the file's length with the number of its pages.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(told)?;
    let bytes = std::fs::metadata(file).map_err(|reason| OpenError::Folder { path: file.to_path_buf(), reason })?.len();
    if bytes <= CHECKED_BYTES_MAX {
        let finding: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(told)?;
        if finding != "ok" {
            return Err(OpenError::Damaged { path: file.to_path_buf(), finding });
        }
    }
    Ok(())
}
