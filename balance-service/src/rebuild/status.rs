use serde::Serialize;
use shared::error::BackendError;
use shared::partition::Partition;
use utoipa::ToSchema;

use super::job::Job;

/// Progress of one partition of the new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RebuildPartition)]
pub struct PartitionProgress {
    /// Partition number, from 1.
    #[schema(value_type = u16)]
    pub partition: Partition,
    /// `waiting`, `replaying` or `live`.
    pub state: &'static str,
    /// Events replayed.
    pub done: u64,
    /// Events to replay: an estimate until the replay is done, null before its first event.
    pub total: Option<u64>,
}

/// A job and its progress.
#[derive(Clone, Debug, PartialEq)]
pub struct RebuildStatus {
    /// The job.
    pub job: Job,
    /// One entry for each partition, in order; empty for a job that has no generation.
    pub partitions: Vec<PartitionProgress>,
    /// Events replayed per second since the job began; `None` before the first.
    pub events_per_second: Option<u64>,
    /// Seconds until the replay is done at this rate; `None` when unknown or done.
    pub eta_seconds: Option<u64>,
}

/// Why a request about rebuilds was refused.
#[derive(Debug, thiserror::Error)]
pub enum RebuildRefusal {
    /// A job is running; there is one at a time.
    #[error("a rebuild is running")]
    Running(Box<RebuildStatus>),
    /// No job is running.
    #[error("no rebuild is running")]
    NothingToCancel,
    /// The queries are being switched.
    #[error("it is too late to cancel: the queries are being switched; roll back when that is done")]
    TooLate,
    /// There is no previous generation, or it is no longer kept.
    #[error("no previous generation is kept")]
    NoPrevious,
    /// A backend failed; ask for the status.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
