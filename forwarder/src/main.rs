//! The forwarder as a process of its own: from the store to the partitions of the log.

use std::process::ExitCode;

use clap::Parser;
use forwarder::ForwarderConfig;
use shared::config::Settings;
use shared::process::{self, Process};

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
    process::run("forwarder", settings, serve).await
}

async fn serve(process: Process) -> anyhow::Result<()> {
    let config = ForwarderConfig::of(&process);
    let Process { backends, clock, shutdown, .. } = process;
    Ok(forwarder::run(config, backends.store, backends.log, backends.leases, clock, shutdown).await?)
}
