//! What SQLite's errors mean for a caller.

use std::path::PathBuf;

use rusqlite::{Error, ErrorCode};

use super::OpenError;
use crate::error::{BackendError, Effect, Retry};

/// A failure after which nothing of the operation is left.
pub(super) fn not_done(operation: &'static str, error: Error) -> BackendError {
    BackendError { operation, effect: Effect::None, retry: retry(&error), source: Box::new(error) }
}

/// Waiting helps against a full disk or a busy file, not against a damaged file or a mistake in a statement.
fn retry(error: &Error) -> Retry {
    let passing = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::CannotOpen
                | ErrorCode::OperationInterrupted
                | ErrorCode::OperationAborted
        )
    );
    if passing { Retry::Later } else { Retry::Never }
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
