//! Whose turn it is to compare the view with the store in this process.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turn of the checks that clients of a process request: one at a time, since each may read the whole store. Cheap
/// to clone.
#[derive(Clone, Debug)]
pub struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turn {
    /// Takes it; `None` while a check runs.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }

    /// Whether a check runs.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.available_permits() == 0
    }
}
