//! The standalone forwarder: publishes the store's events to the partitions of the log.

use std::process::ExitCode;

use clap::Parser;
use forwarder::ForwarderConfig;
use futures::future::try_join;
use shared::config::Settings;
use shared::process::{self, Allocator, Process};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: Allocator = process::ALLOCATOR;

/// The forwarder as a process of its own: from the store to the partitions of the log.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { settings } = Cli::parse();
    Box::pin(process::run("forwarder", Process::begin(settings), serve)).await
}

async fn serve(process: Process) -> anyhow::Result<()> {
    let listener = Process::listen(process.settings.services.forwarder_addr, "--forwarder-addr")?;
    let config = ForwarderConfig::of(&process);
    let Process { backends, clock, limits, metrics, shutdown, .. } = process;
    // Health and metrics are served until forwarding has stopped; if they cannot be served, forwarding stops too.
    let stopped = CancellationToken::new();
    let answering = forwarder::serve_operations(backends.clone(), metrics, listener, limits, stopped.clone());
    let forwarding = async {
        let ended = forwarder::run(config, backends.store, backends.log, backends.leases, clock, shutdown).await;
        stopped.cancel();
        Ok(ended?)
    };
    try_join(async { anyhow::Ok(answering.await?) }, forwarding).await?;
    Ok(())
}
