use std::error::Error;
use std::time::Duration;

use tokio::time::timeout;

use crate::error::BackendError;

/// How long one call may take: far more than a server that works needs, and less than anybody waits for a bank.
pub(super) const CALL_MAX: Duration = Duration::from_secs(5);

/// A call that changes nothing, so that no failure of it has had an effect.
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
