//! The balance service as a standalone process: from the log to balances, queries and rebuilds.

use std::process::ExitCode;

use balance_service::BalanceConfig;
use clap::Parser;
use shared::config::Settings;
use shared::process::{self, Allocator, Process};
use tracing::info;

#[global_allocator]
static ALLOCATOR: Allocator = process::ALLOCATOR;

/// Standalone balance service: folds the partition log into balances, answers queries, rebuilds the projection.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { settings } = Cli::parse();
    Box::pin(process::run("balance-service", Process::begin(settings), serve)).await
}

async fn serve(process: Process) -> anyhow::Result<()> {
    let listener = Process::listen(process.settings.services.balance_addr, "--balance-addr")?;
    info!(address = %listener.local_addr()?, "balance service is listening");
    let config = BalanceConfig::of(&process);
    let edge = process.edge(listener);
    let Process { backends, clock, ids, shutdown, .. } = process;
    Ok(balance_service::run(config, backends, clock, ids, edge, shutdown).await?)
}
