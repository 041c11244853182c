//! The bank: `bank` serves, `bank import` plays a file of transactions, `bank verify` compares the projection with the
//! store, `bank rebuild` and `bank rollback` replace it, `bank bench` measures.

mod bench;
mod console;
mod exit;
mod import;
mod number;
mod rebuild;
mod serve;
mod service;
mod text;
mod url;
mod verify;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use shared::config::Settings;
use shared::process::{self, Allocator};
use tokio::runtime;

use exit::{EXIT_CODES, Exit};
use rebuild::Kind;

#[global_allocator]
static ALLOCATOR: Allocator = process::ALLOCATOR;

/// An event-sourced bank in one process: account service, forwarder and balance service.
///
/// Without a command it serves, like `bank serve`.
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
    /// Serve until stopped; the default without a command
    #[command(after_help = EXIT_CODES)]
    Serve(Box<Settings>),

    /// Import a file of transactions through the HTTP API of a running bank
    #[command(after_help = EXIT_CODES)]
    Import(import::ImportArgs),

    /// Measure a running bank, and check the balances afterwards
    #[command(after_help = EXIT_CODES)]
    Bench(bench::BenchArgs),

    /// Compare the projection with the store, also while the bank is running; repair it with --repair
    #[command(after_help = EXIT_CODES)]
    Verify(Box<verify::VerifyArgs>),

    /// Rebuild the projection of a running bank, and wait until it is verified and answers queries
    ///
    /// The generation that is kept for a rollback is discarded, even if the rebuild fails or is cancelled.
    #[command(after_help = EXIT_CODES)]
    Rebuild(rebuild::JobArgs),

    /// Switch queries of a running bank back to the generation that the last rebuild replaced, while it is kept
    #[command(after_help = EXIT_CODES)]
    Rollback(rebuild::JobArgs),
}

fn main() -> ExitCode {
    let Cli { settings, command } = Cli::try_parse().unwrap_or_else(|refusal| spelt(refusal).exit());
    let done = match command {
        None => on_all_cores(serve::run(settings)),
        Some(Command::Serve(settings)) => on_all_cores(serve::run(*settings)),
        Some(Command::Import(args)) => on_all_cores(import::run(args)),
        Some(Command::Verify(args)) => on_all_cores(verify::run(*args)),
        Some(Command::Rebuild(args)) => on_all_cores(rebuild::run(Kind::Rebuild, args)),
        Some(Command::Rollback(args)) => on_all_cores(rebuild::run(Kind::Rollback, args)),
        Some(Command::Bench(args)) if args.needs_all_cores() => on_all_cores(bench::run(args)),
        Some(Command::Bench(args)) => on_one_thread(bench::run(args)),
    };
    done.unwrap_or_else(|failure| {
        console::complain(format_args!("{failure:#}"));
        Exit::of(&failure)
    })
    .into()
}

/// Adds the right spelling to the refusal of options in front of a command, which are those of `bank` without one. By
/// itself it reads as if the command did not take them at all.
fn spelt(mut refusal: clap::Error) -> clap::Error {
    let mut bank = Cli::command();
    bank.build();
    let word = refusal.get(ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
    if let (ErrorKind::ArgumentConflict, Some(command)) = (refusal.kind(), bank.find_subcommand_mut(&word)) {
        let tip = "the options of a command stand behind it".into();
        refusal.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
        refusal.insert(ContextKind::Usage, ContextValue::StyledStr(command.render_usage()));
    }
    refusal
}

fn on_all_cores(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// For work that must leave the other cores to the processes beside it.
fn on_one_thread(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        Cli::try_parse_from(arguments).err().map(spelt).expect("it is refused").to_string()
    }

    #[test]
    fn options_in_front_of_a_command_are_refused_with_the_right_spelling() {
        for (command, usage) in [
            ("serve", "Usage: bank serve [OPTIONS]"),
            ("import", "Usage: bank import [OPTIONS] <FILE>"),
            ("verify", "Usage: bank verify [OPTIONS]"),
            ("rebuild", "Usage: bank rebuild [OPTIONS]"),
            ("rollback", "Usage: bank rollback [OPTIONS]"),
            ("bench", "Usage: bank bench <COMMAND>"),
        ] {
            let told = refusal(&["bank", "--data", "x", command]);
            assert!(told.contains("the options of a command stand behind it") && told.contains(usage), "{told}");
        }
        let told = refusal(&["bank", "--data", "x", "no-such-command"]);
        assert!(!told.contains("stand behind"), "{told}");
    }
}
