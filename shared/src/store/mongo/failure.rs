//! What a driver error says about the call that met it.

use std::future::Future;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, WriteFailure};
use tokio::time::timeout;

use crate::error::{BackendError, Effect, Retry};

/// How long a call that reads or writes once may take; after that the server counts as gone.
pub(super) const CALL_MAX: Duration = Duration::from_secs(10);

pub(super) const NAMESPACE_EXISTS: i32 = 48;
const DUPLICATE_KEY: i32 = 11_000;
const WRITE_CONFLICT: i32 = 112;

/// `InvalidResumeToken`, `ChangeStreamFatalError`, `ChangeStreamHistoryLost`, `CappedPositionLost`.
const FEED_LOST: [i32; 4] = [260, 280, 286, 136];

/// The server's label for a failure of a change stream that may succeed when retried.
const RETRYABLE: &str = "ResumableChangeStreamError";

/// `Unauthorized`, `AuthenticationFailed`, `DocumentValidationFailure`: the server refused before it did anything.
const REFUSED: [i32; 3] = [13, 18, 121];

pub(super) fn has_code(error: &Error, code: i32) -> bool {
    code_of(error) == Some(code)
}

fn code_of(error: &Error) -> Option<i32> {
    if let ErrorKind::Command(command) = &*error.kind {
        Some(command.code)
    } else if let ErrorKind::Write(WriteFailure::WriteError(write)) = &*error.kind {
        Some(write.code)
    } else if let ErrorKind::InsertMany(many) = &*error.kind {
        many.write_errors.as_ref()?.first().map(|write| write.code)
    } else {
        None
    }
}

/// Another write has taken the unique key first.
pub(super) fn is_duplicate(error: &Error) -> bool {
    has_code(error, DUPLICATE_KEY)
}

/// Whether a document was not written because another write was faster.
pub(super) const fn is_race(code: i32) -> bool {
    matches!(code, DUPLICATE_KEY | WRITE_CONFLICT)
}

/// Whether a document was not written because the server refuses it or its writer.
pub(super) fn is_refusal(code: i32) -> bool {
    REFUSED.contains(&code)
}

/// The transaction has no effect and may be retried as a whole. Not so if no server was found: the caller should learn
/// that while it still waits.
pub(super) fn is_lost_race(error: &Error) -> bool {
    let is_transient = error.contains_label(TRANSIENT_TRANSACTION_ERROR) && !found_no_server(error);
    code_of(error).is_some_and(is_race) || is_transient
}

/// The server refused, and did not mark the failure as retryable.
pub(super) fn is_refused(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(_)) && !error.contains_label(RETRYABLE) && !is_feed_lost(error)
}

/// The server no longer has what follows the position.
pub(super) fn is_feed_lost(error: &Error) -> bool {
    code_of(error).is_some_and(|code| FEED_LOST.contains(&code))
}

/// The driver's message, without the list of empty fields after it and after each failure that it quotes.
pub(super) fn words_of(error: &Error) -> String {
    error.kind.to_string().replace("Kind: ", "").replace(", labels: {}, source: None, server response: None", "")
}

/// A driver error with a readable message.
#[derive(Debug, thiserror::Error)]
#[error("{}", words_of(.0))]
struct Readable(Error);

/// Whether a call failed because no server was there to take it.
pub(super) fn is_without_server(failure: &BackendError) -> bool {
    failure.source.downcast_ref::<Readable>().is_some_and(|Readable(error)| found_no_server(error))
}

fn found_no_server(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::ServerSelection { .. })
}

/// A read has no effect, whatever its outcome. Neither has a transaction that was never asked to commit.
pub(super) fn without_effect(operation: &'static str, error: Error) -> BackendError {
    BackendError { operation, effect: Effect::None, retry: retry(&error), source: Readable(error).into() }
}

/// A write has no effect only if it is known not to have reached a server, or the server is known to have refused it.
pub(super) fn of_write(operation: &'static str, error: Error) -> BackendError {
    let refused = code_of(&error).is_some_and(is_refusal);
    let unsent = matches!(
        &*error.kind,
        ErrorKind::ServerSelection { .. } | ErrorKind::InvalidArgument { .. } | ErrorKind::Authentication { .. }
    );
    let effect = if refused || unsent { Effect::None } else { Effect::Unknown };
    BackendError { operation, effect, retry: retry(&error), source: Readable(error).into() }
}

fn retry(error: &Error) -> Retry {
    let refused = code_of(error).is_some_and(is_refusal);
    let misused = matches!(&*error.kind, ErrorKind::InvalidArgument { .. } | ErrorKind::Authentication { .. });
    if refused || misused { Retry::Never } else { Retry::Later }
}

/// Reads within [`CALL_MAX`].
pub(super) async fn read<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, BackendError> {
    match timeout(CALL_MAX, call).await {
        Ok(outcome) => outcome.map_err(|error| without_effect(operation, error)),
        Err(late) => Err(BackendError::not_done(operation, late)),
    }
}

/// Writes within [`CALL_MAX`]; a write that is not answered in time may have happened.
pub(super) async fn write<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, BackendError> {
    timeout(CALL_MAX, call).await.map_err(|late| BackendError::unknown(operation, late))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_within_a_failure_is_told_without_empty_fields() {
        let refused = Error::from(std::io::Error::other("connection refused"));
        let error = Error::custom(format!("no server: {{ Address: db:27017, Error: {refused} }}"));
        let words = without_effect("open", error).to_string();
        let expected = "no server: { Address: db:27017, Error: I/O error: connection refused }";
        assert!(words.ends_with(expected), "{words}");
    }
}
