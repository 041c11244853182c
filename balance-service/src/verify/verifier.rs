//! The checks that clients of a process request.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use shared::backends::Backends;
use shared::clock::Clock;
use shared::error::BackendError;
use shared::partition::{Partition, PartitionMap};
use tracing::debug;

use super::check::{Check, CheckError, Progress, Scope, check};
use super::note::{Note, Sum, Verified};
use super::report::PartitionReport;
use super::turn::{Taken, Turn};

/// How long a difference may be due to events in flight, by default: a partition whose worker died has a new one
/// sooner.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);

/// The shortest patience: events in flight take some milliseconds, but now and then as long as a machine pauses.
pub const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// The longest patience.
pub const PATIENCE_MAX: Duration = Duration::from_hours(1);

/// Runs the checks that clients of a process request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Verifier<B> {
    backends: B,
    partitions: PartitionMap,
    turn: Turn,
    /// How a check of the whole view is noted, if it is.
    noting: Option<Noting>,
}

/// How a check of the whole view is noted.
#[derive(Clone, Debug)]
struct Noting {
    /// The time of day.
    clock: Clock,
    /// The patience without which a difference is not noted: it may have been due to events in flight.
    patience: Duration,
}

/// A running check; dropping it ends it.
pub struct Running {
    /// The reports as they come.
    pub reports: BoxStream<'static, Result<PartitionReport, CheckError>>,
    /// Its progress.
    pub progress: Progress,
    _turn: Taken,
}

impl<B: Backends> Verifier<B> {
    /// The checks of one process, which leave nothing behind.
    #[must_use]
    pub fn new(backends: B, partitions: PartitionMap) -> Self {
        Self { backends, partitions, turn: Turn::default(), noting: None }
    }

    /// The checks of a balance service: the routine verification that has the same `turn` gives way to those of
    /// partitions, and one of all partitions counts as a verification of the view, if it finds nothing wrong or has at
    /// least this patience.
    #[must_use]
    pub fn of_service(backends: B, partitions: PartitionMap, patience: Duration, clock: Clock, turn: Turn) -> Self {
        Self { backends, partitions, turn, noting: Some(Noting { clock, patience }) }
    }

    /// All partitions.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.partitions.all()
    }

    /// Begins a check; `None` while one is running.
    #[must_use]
    pub fn begin(&self, what: Check) -> Option<Running> {
        let turn = self.turn.take(&what.scope)?;
        let (progress, patience) = (Progress::default(), what.patience);
        // Accounts of every partition are not yet all accounts.
        let noting = self.noting.clone().filter(|_| matches!(what.scope, Scope::Partitions(_)));
        let reports = check(self.backends.clone(), self.partitions, what, progress.clone());
        let reports = match noting {
            Some(noting) => {
                let is_patient = patience >= noting.patience;
                noted(self.backends.clone(), self.partitions, noting.clock, is_patient, reports).boxed()
            }
            None => reports.boxed(),
        };
        Some(Running { reports, progress, _turn: turn })
    }
}

/// The same reports, which are noted behind the last one if they amount to a verification of the view. What hasty ones
/// found wrong is not: an alarm would stand for it until the next verification.
fn noted<B: Backends>(
    backends: B,
    map: PartitionMap,
    clock: Clock,
    is_patient: bool,
    reports: impl Stream<Item = Result<PartitionReport, CheckError>> + Send + 'static,
) -> impl Stream<Item = Result<PartitionReport, CheckError>> + Send {
    let begin = (reports.boxed(), Sum::default(), backends, clock);
    stream::unfold(begin, move |(mut reports, mut sum, backends, clock)| async move {
        let Some(report) = reports.next().await else {
            // Without its note, the view is verified again sooner than it needs to be.
            let verified = sum.verified(map.partitions(), clock.now());
            if let Some(verified) = verified.filter(|verified| is_patient || verified.found.is_clean())
                && let Err(failure) = note(&backends, &verified).await
            {
                debug!(%failure, "the verification was not noted");
            }
            return None;
        };
        if let Ok(report) = &report {
            sum.add(report);
        }
        Some((report, (reports, sum, backends, clock)))
    })
}

async fn note<B: Backends>(backends: &B, verified: &Verified) -> Result<(), BackendError> {
    Note::load(backends.store()).await?.write(backends.store(), verified).await
}
