use std::convert::Infallible;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::EXIT_FAILURE;

#[cfg(not(unix))]
compile_error!("the bank is made for Linux and macOS: Windows has neither their signals nor a sync of folders");

/// The first signal to stop cancels `shutdown`; the second ends the process at once, which is safe at any time because
/// nothing is acknowledged before it is durable. Never returns.
pub(super) async fn obey(mut signals: Signals, shutdown: CancellationToken) -> Infallible {
    signals.next().await;
    info!("shutdown requested");
    shutdown.cancel();
    signals.next().await;
    warn!("shutdown requested again, exiting at once");
    std::process::exit(EXIT_FAILURE.into());
}

/// The signals that ask a process to stop: SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on, none of them ends the process by itself.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
