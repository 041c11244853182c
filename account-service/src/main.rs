//! The standalone account service: takes commands over HTTP and appends their events to the store.

use std::process::ExitCode;

use account_service::AccountServiceConfig;
use clap::Parser;
use shared::config::Settings;
use shared::process::{self, Allocator, Process};
use shared::store::AnyStore;
use tracing::info;

#[global_allocator]
static ALLOCATOR: Allocator = process::ALLOCATOR;

/// Standalone account service: takes commands over HTTP and appends their events to the store.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { settings } = Cli::parse();
    Box::pin(process::run("account-service", Process::begin_with_store(settings), serve)).await
}

async fn serve(process: Process<AnyStore>) -> anyhow::Result<()> {
    let listener = Process::listen(process.settings.services.account_addr, "--account-addr")?;
    info!(address = %listener.local_addr()?, "account service is listening");
    let config = AccountServiceConfig::of(&process);
    let edge = process.edge(listener);
    let Process { backends: store, clock, ids, shutdown, .. } = process;
    Ok(account_service::run(config, store, clock, ids, edge, shutdown).await?)
}
