//! What every process of the bank does before its service and while that runs.

mod descriptors;
mod signals;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::backends::{AnyBackends, OpenBackendsError, open_store_alone};
use crate::clock::Clock;
use crate::config::Settings;
use crate::http::{Edge, Limits};
use crate::id::Ids;
use crate::lease::Holder;
use crate::partition::{PartitionCountError, PartitionMap};
use crate::store::AnyStore;
use crate::telemetry::{LogError, MetricsError, MetricsReader, init_logs, install_metrics};

/// The allocator of every binary. A request, or an event on its way, consists of many short-lived pieces that are often
/// freed on a thread other than the one that allocated them, which this allocator is made for.
pub type Allocator = mimalloc::MiMalloc;

/// The allocator, for `#[global_allocator]`.
pub const ALLOCATOR: Allocator = mimalloc::MiMalloc;

/// The exit code of a process that failed; its last output says why.
pub const EXIT_FAILURE: u8 = 1;

/// The exit code of a process with a wrong setting; clap uses the same number.
pub const EXIT_USAGE: u8 = 2;

/// The exit code of a process whose data folder another process uses.
pub const EXIT_DATA_IN_USE: u8 = 3;

/// How many connections may wait until they are accepted, as many as the kernel allows by default
/// (`net.core.somaxconn`). One that finds no room tries again after a second, and then after two: with the usual 128, a
/// crowd that comes back after a restart would wait for seconds.
const BACKLOG: u32 = 4_096;

/// Why a process cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Logs cannot be initialized.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// Metrics cannot be initialized.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The number of partitions is invalid.
    #[error(transparent)]
    Partitions(#[from] PartitionCountError),
    /// The backends cannot be opened.
    #[error(transparent)]
    Backends(#[from] OpenBackendsError),
    /// An address is in use, or is not this machine's.
    #[error("cannot listen on {address}: {reason}; choose another address with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting it comes from.
        flag: &'static str,
        /// What the operating system says.
        reason: std::io::Error,
    },
}

impl BeginError {
    /// The exit code that identifies this failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Backends(failure) if failure.is_in_use() => EXIT_DATA_IN_USE,
            Self::Backends(failure) if failure.is_wrong_setting() => EXIT_USAGE,
            Self::Partitions(_) => EXIT_USAGE,
            Self::Backends(_) | Self::Logs(_) | Self::Metrics(_) | Self::Listen { .. } => EXIT_FAILURE,
        }
    }
}

/// What a service gets from its process.
#[derive(Debug)]
pub struct Process<B = AnyBackends> {
    /// As given by flags and environment.
    pub settings: Settings,
    /// How accounts are spread over partitions.
    pub partitions: PartitionMap,
    /// The machine's clock.
    pub clock: Clock,
    /// The ids of this process.
    pub ids: Ids,
    /// The name of this process as a holder of leases; new at every start.
    pub holder: Holder,
    /// How much of each of its services one client may use.
    pub limits: Limits,
    /// What `/metrics` shows.
    pub metrics: MetricsReader,
    /// The four backends, or what a service needs of them.
    pub backends: B,
    /// Cancelled when the process is asked to stop.
    pub shutdown: CancellationToken,
}

impl Process {
    /// Starts logging and metrics, raises the limit on open files, and opens the four backends.
    ///
    /// # Errors
    /// [`BeginError`]; nothing was changed.
    pub async fn begin(settings: Settings) -> Result<Self, BeginError> {
        let begun = Process::begin_without_backends(settings)?;
        let Process { settings, partitions, clock, ids, .. } = &begun;
        let backends = AnyBackends::open(&settings.backends, *partitions, clock, ids).await?;
        Ok(begun.with(backends))
    }

    /// Listens on an address, which comes from the setting `flag`.
    ///
    /// # Errors
    /// [`BeginError::Listen`].
    pub fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, BeginError> {
        listen(address).map_err(|reason| BeginError::Listen { address, flag, reason })
    }
}

impl Process<AnyStore> {
    /// The same, but opens the store alone: what a service does not need must not keep it from its start.
    ///
    /// # Errors
    /// As for [`Process::begin`].
    pub async fn begin_with_store(settings: Settings) -> Result<Self, BeginError> {
        let begun = Process::begin_without_backends(settings)?;
        let store = open_store_alone(&begun.settings.backends, begun.partitions).await?;
        Ok(begun.with(store))
    }
}

impl<B> Process<B> {
    /// What a service of this process needs to serve HTTP on `listener`.
    #[must_use]
    pub fn edge(&self, listener: TcpListener) -> Edge {
        Edge { listener, limits: self.limits, metrics: Some(self.metrics.clone()) }
    }
}

impl Process<()> {
    fn begin_without_backends(settings: Settings) -> Result<Self, BeginError> {
        init_logs(&settings.logs)?;
        let metrics = install_metrics()?;
        let limits = descriptors::limits();
        let clock = Clock::system();
        let ids = Ids::new(clock.clone());
        let partitions = PartitionMap::new(settings.pipeline.partitions)?;
        let holder = Holder(ids.commit().to_string().into());
        let shutdown = CancellationToken::new();
        Ok(Self { settings, partitions, clock, ids, holder, limits, metrics, backends: (), shutdown })
    }

    fn with<B>(self, backends: B) -> Process<B> {
        let Self { settings, partitions, clock, ids, holder, limits, metrics, backends: (), shutdown } = self;
        Process { settings, partitions, clock, ids, holder, limits, metrics, backends, shutdown }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Otherwise a process that is started again would have to wait for the connections of the last one.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Runs the work of a process until it ends or a second signal arrives: the first signal cancels `shutdown`. Whatever
/// the work says about itself, signals are obeyed by then.
///
/// # Errors
/// Those of the work, or signals cannot be received.
pub async fn until_told_to_stop<E: From<std::io::Error>>(
    shutdown: CancellationToken,
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let signals = signals::Signals::new()?;
    tokio::select! {
        biased;
        ended = work => ended,
        never = signals::obey(signals, shutdown) => match never {},
    }
}

/// Runs a service as a process of its own and returns its exit code; failures are printed to stderr.
pub async fn run<B, E: Display>(
    name: &str,
    begun: impl Future<Output = Result<Process<B>, BeginError>>,
    service: impl AsyncFnOnce(Process<B>) -> Result<(), E>,
) -> ExitCode {
    let process = match begun.await {
        Ok(process) => process,
        Err(failure) => return broken(name, &failure, failure.exit_code()),
    };
    let shutdown = process.shutdown.clone();
    let ended = until_told_to_stop(shutdown, async {
        service(process).await.map_err(|failure| std::io::Error::other(format!("{failure:#}")))
    });
    match ended.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => broken(name, &failure, EXIT_FAILURE),
    }
}

fn broken(name: &str, failure: &impl Display, code: u8) -> ExitCode {
    error!(process = name, %failure, "process ends");
    complain(name, failure);
    ExitCode::from(code)
}

/// Says on stderr what went wrong in a process, as one line. If stderr takes nothing, nobody is told: that must not
/// become a failure of its own, as it would with `eprintln!`, which panics.
pub fn complain(name: &str, failure: impl Display) {
    writeln!(io::stderr(), "{name}: {failure}").ok();
}
