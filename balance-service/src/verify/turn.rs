//! Whose turn it is to compare the view with the store in this process.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::check::Scope;

/// The turn of the checks that clients of a process request: one at a time, since each may read the whole store. Cheap
/// to clone.
#[derive(Clone, Debug)]
pub struct Turn {
    checks: Arc<Semaphore>,
    /// Taken as well by a check of partitions.
    of_partitions: Arc<Semaphore>,
}

/// The turn of one check, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    // Fields are dropped in order: whoever takes the turn next finds this one free.
    _of_partitions: Option<OwnedSemaphorePermit>,
    _check: OwnedSemaphorePermit,
}

impl Default for Turn {
    fn default() -> Self {
        Self { checks: Arc::new(Semaphore::new(1)), of_partitions: Arc::new(Semaphore::new(1)) }
    }
}

impl Turn {
    /// Takes it; `None` while a check runs.
    pub(super) fn take(&self, scope: &Scope) -> Option<Taken> {
        let check = Arc::clone(&self.checks).try_acquire_owned().ok()?;
        let of_partitions = match scope {
            Scope::Partitions(_) => Some(Arc::clone(&self.of_partitions).try_acquire_owned().ok()?),
            Scope::Accounts(_) => None,
        };
        Some(Taken { _of_partitions: of_partitions, _check: check })
    }

    /// Whether a check of partitions runs.
    pub(super) fn is_of_partitions(&self) -> bool {
        self.of_partitions.available_permits() == 0
    }
}
