//! The time limit of a call to NATS, and the failure it ends with.

use std::error::Error;
use std::time::Duration;

use tokio::time::timeout;

use crate::error::BackendError;

/// How long one call may take: far longer than a working server needs, and shorter than clients are willing to wait.
pub(super) const CALL_MAX: Duration = Duration::from_secs(5);

/// Makes a call whose failure is treated as having had no effect: a read, or a purge, which its caller repeats.
pub(super) async fn within<T, E>(
    operation: &'static str,
    call: impl IntoFuture<Output = Result<T, E>>,
) -> Result<T, BackendError>
where
    E: Error + Send + Sync + 'static,
{
    match timeout(CALL_MAX, call).await {
        Ok(answer) => answer.map_err(|error| BackendError::not_done(operation, error)),
        Err(elapsed) => Err(BackendError::not_done(operation, elapsed)),
    }
}
