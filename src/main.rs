//! The bank: `bank` serves, `bank import` plays a file of transactions.

mod exit;
mod import;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shared::config::Settings;

use exit::{EXIT_CODES, Exit};

/// An event-sourced bank in one process: account service, forwarder and balance service on a folder of files.
///
/// Without a command it serves.
#[derive(Parser)]
#[command(name = "bank", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    settings: Settings,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until stopped; what `bank` does without a command
    #[command(after_help = EXIT_CODES)]
    Serve(Box<Settings>),

    /// Play a file of transactions through the HTTP API of a running bank
    #[command(after_help = EXIT_CODES)]
    Import(import::ImportArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { settings, command } = Cli::parse();
    let done = match command {
        None => serve::run(settings).await,
        Some(Command::Serve(settings)) => serve::run(*settings).await,
        Some(Command::Import(args)) => import::run(args).await,
    };
    done.unwrap_or_else(|failure| {
        eprintln!("bank: {failure:#}");
        Exit::Failure
    })
    .into()
}
