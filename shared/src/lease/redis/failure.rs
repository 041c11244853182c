use redis::RedisError;

use crate::error::BackendError;

/// What a server answers instead of running a script: it is starting, busy, a replica, or denies access.
const REFUSED: [&str; 7] = ["LOADING", "READONLY", "MASTERDOWN", "BUSY", "NOAUTH", "WRONGPASS", "NOPERM"];

/// Whether a call that failed took effect: only a refusal is known to have had none.
pub(super) fn of(operation: &'static str, error: RedisError) -> BackendError {
    let refused = error.code().is_some_and(|code| REFUSED.contains(&code));
    if refused || error.is_connection_refusal() {
        BackendError::not_done(operation, error)
    } else {
        BackendError::unknown(operation, error)
    }
}
