//! The bank.

mod exit;
mod import;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{EXIT_CODES, Exit};

/// An event-sourced bank in one process: account service, forwarder and balance service on a folder of files.
#[derive(Parser)]
#[command(name = "bank", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play a file of transactions through the HTTP API of a running bank
    #[command(after_help = EXIT_CODES)]
    Import(import::ImportArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Import(args) => import::run(args).await,
    };
    done.unwrap_or_else(|failure| {
        eprintln!("bank: {failure:#}");
        Exit::Failure
    })
    .into()
}
