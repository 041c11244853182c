//! The checks that clients of a process request.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use shared::backends::Backends;
use shared::partition::{Partition, PartitionMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::check::{Check, CheckError, Progress, check};
use super::report::PartitionReport;

/// How long a difference may be due to events in flight, by default: a partition whose worker died has a new one
/// sooner.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);

/// The shortest patience: events in flight take some milliseconds, but now and then as long as a machine pauses.
pub const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// The longest patience.
pub const PATIENCE_MAX: Duration = Duration::from_hours(1);

/// Runs the checks that clients of a process request: one at a time, since each reads the whole store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Verifier<B> {
    backends: B,
    partitions: PartitionMap,
    turn: Arc<Semaphore>,
}

/// A running check; dropping it ends it.
pub struct Running {
    /// The reports as they come.
    pub reports: BoxStream<'static, Result<PartitionReport, CheckError>>,
    /// Its progress.
    pub progress: Progress,
    _turn: OwnedSemaphorePermit,
}

impl<B: Backends> Verifier<B> {
    /// The checks of one process.
    #[must_use]
    pub fn new(backends: B, partitions: PartitionMap) -> Self {
        Self { backends, partitions, turn: Arc::new(Semaphore::new(1)) }
    }

    /// All partitions.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.partitions.all()
    }

    /// Begins a check; `None` while one is running.
    #[must_use]
    pub fn begin(&self, what: Check) -> Option<Running> {
        let turn = Arc::clone(&self.turn).try_acquire_owned().ok()?;
        let progress = Progress::default();
        let reports = check(self.backends.clone(), self.partitions, what, progress.clone()).boxed();
        Some(Running { reports, progress, _turn: turn })
    }
}
