//! What SQLite's errors mean for a caller.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Error, ErrorCode, ffi};

use super::OpenError;
use crate::error::{BackendError, Effect, Retry};

/// A failure after which nothing of the operation is left.
pub(super) fn not_done(operation: &'static str, error: Error) -> BackendError {
    BackendError { operation, effect: Effect::None, retry: retry(&error), source: Box::new(error) }
}

/// The pause before something is tried again on a disk that is full or fails: somebody has to come and help.
const DISK_PAUSE: Duration = Duration::from_secs(2);

/// Waiting helps against a full disk or a busy file, not against a damaged file or a mistake in a statement.
pub(super) fn retry(error: &Error) -> Retry {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Retry::After(DISK_PAUSE),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::CannotOpen
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted,
        ) => Retry::Later,
        Some(_) | None => Retry::Never,
    }
}

/// Whether nothing of a transaction can be left whose COMMIT failed like this, not even after a crash: a frame could
/// not be written to the write-ahead log, and the last frame, without which the others do not count, is written after
/// all others. Any other failure may come after it (`walFrames` in SQLite).
pub(super) fn is_torn(error: &Error) -> bool {
    matches!(error.sqlite_extended_error_code(), Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_WRITE))
}

/// An error of SQLite while a file is opened.
pub(super) fn of_opening(path: PathBuf, error: Error) -> OpenError {
    if is_damage(&error) {
        OpenError::Damaged { path, finding: error.to_string() }
    } else {
        OpenError::Sqlite { path, reason: error }
    }
}

/// Whether SQLite says that the file itself is bad.
fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_given_more_time_than_a_busy_file_and_damage_none() {
        let told = |code| not_done("test", Error::SqliteFailure(ffi::Error::new(code), None)).retry;
        for disk in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_READ] {
            assert_eq!(told(disk), Retry::After(DISK_PAUSE));
        }
        assert_eq!(told(ffi::SQLITE_BUSY), Retry::Later);
        assert_eq!(told(ffi::SQLITE_CORRUPT), Retry::Never);
    }

    #[test]
    fn only_a_frame_that_could_not_be_written_leaves_nothing_of_a_commit() {
        let torn = |code| is_torn(&Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(torn(ffi::SQLITE_FULL) && torn(ffi::SQLITE_IOERR_WRITE));
        for later in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR, ffi::SQLITE_NOMEM] {
            assert!(!torn(later), "{later}");
        }
    }
}
