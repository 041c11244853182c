//! Discarding generations that no job needs any more (law B7 of [`crate::rebuild`]).

use shared::backends::Backends;
use shared::error::BackendError;
use shared::index::{BalanceIndex, Generation};
use tracing::info;

use super::job::{Job, Purpose};

/// Removes what a cancelled job has built.
pub(super) async fn discard_leftovers<B: Backends>(backends: &B, job: &Job) -> Result<(), BackendError> {
    match (job.purpose, job.generation) {
        (Purpose::Rebuild | Purpose::Restore, Some(generation)) => discard(backends, generation).await,
        (Purpose::Rollback, _) | (_, None) => Ok(()),
    }
}

/// Removes a generation.
pub(super) async fn discard<B: Backends>(backends: &B, generation: Generation) -> Result<(), BackendError> {
    backends.index().discard(generation).await?;
    info!(%generation, "generation discarded");
    Ok(())
}
