use std::io;

use tokio::net::TcpListener;

use super::Limits;
use crate::supervise::TaskFailure;
use crate::telemetry::MetricsReader;

/// What a service needs, besides its backends, to serve HTTP.
#[derive(Debug)]
pub struct Edge {
    /// Where it listens.
    pub listener: TcpListener,
    /// How much of the server one client may use.
    pub limits: Limits,
    /// What `/metrics` shows; without it, `/metrics` is empty.
    pub metrics: Option<MetricsReader>,
}

/// Why a service that serves HTTP stopped without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The listener failed.
    #[error("the service cannot listen: {0}")]
    Listen(io::Error),
    /// A task failed that must not fail.
    #[error(transparent)]
    Task(#[from] TaskFailure),
}
