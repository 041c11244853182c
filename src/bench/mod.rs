//! `bank bench`: measures a bank from outside, over HTTP, as its customers meet it, and checks what it measured.
//!
//! BE1  Only what was answered counts. An answer other than success is counted as what it is, and a request without an
//!      answer as unknown.
//! BE2  In the open model (`--rate`) requests begin at the times of a timetable, whether or not earlier ones are
//!      answered, and a latency counts from that time. So a bank that stalls is charged for everybody who had to wait
//!      (coordinated omission, after Gil Tene's "How NOT to Measure Latency"). In the closed model each connection
//!      sends its next request after the answer to the last; these latencies are shown as they are, and once more
//!      corrected with the mean interval of a connection.
//! BE3  What happens in the warm-up takes effect and is checked, but not timed.
//! BE4  At the end the projection is queried for accounts that were used, each at the last version acknowledged or
//!      later, and must show what the acknowledged commands add up to. If balances are wrong, the report says to
//!      discard its figures.
//! BE5  The load runs on one thread, so that it takes at most one core from the bank beside it; its CPU time is
//!      reported with that of all other processes.

mod account;
mod bank;
mod check;
mod connection;
mod cpu;
mod latency;
mod limits;
mod load;
mod options;
mod order;
mod progress;
mod projection;
mod queries;
mod rebuild;
mod report;
mod settings;
mod shown;
mod visibility;

use std::path::Path;

use clap::{Args, Subcommand};

use crate::console;
use crate::exit::Exit;
use load::CommandOptions;
use options::LoadOptions;
use order::Mix;
use report::Report;

/// What to measure.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Deposits and withdrawals on many accounts
    Commands(CommandOptions),
    /// Deposits to one account
    Hot(CommandOptions),
    /// Transfers between accounts
    Transfers(CommandOptions),
    /// Deposits, withdrawals and transfers, and how long they take to become visible by id and by search
    Mixed(LoadOptions),
    /// Queries of the projection: by id, lists, filters
    Queries(LoadOptions),
    /// A rebuild, under load if --rate is given
    Rebuild(LoadOptions),
    /// The limits of HTTP and of the servers, without the bank
    Limits(Box<limits::LimitsOptions>),
    /// Draining a backlog that is written directly to the store
    ///
    /// With embedded backends the run opens a new bank of its own, in the folder --data or in a temporary one; it never
    /// writes into an existing bank, and --url and --balance-url are not used. A temporary folder may be in memory: to
    /// measure a disk, name a folder on it.
    ///
    /// With servers it writes to the store and the namespace of the settings, and queries --balance-url.
    Projection(Box<projection::ProjectionOptions>),
}

impl BenchArgs {
    /// Where the report goes, beside the table.
    fn json(&self) -> Option<&Path> {
        match &self.scenario {
            Scenario::Commands(options) | Scenario::Hot(options) | Scenario::Transfers(options) => {
                options.load.target.json.as_deref()
            }
            Scenario::Mixed(options) | Scenario::Queries(options) | Scenario::Rebuild(options) => {
                options.target.json.as_deref()
            }
            Scenario::Limits(options) => options.json.as_deref(),
            Scenario::Projection(options) => options.target.json.as_deref(),
        }
    }

    /// Whether the run is more than load: it opens a bank of its own here, or drives servers to their limits.
    pub(crate) const fn needs_all_cores(&self) -> bool {
        matches!(self.scenario, Scenario::Projection(_) | Scenario::Limits(_))
    }
}

/// Measures, checks, reports.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<Exit> {
    let json = args.json().map(Path::to_owned);
    if let Some(path) = &json {
        report::try_out(path)?;
    }
    let report = match args.scenario {
        Scenario::Commands(options) => load::measure("commands", Mix::OneAccount, &options).await?,
        Scenario::Hot(mut options) => {
            options.load.accounts = 1;
            load::measure("hot", Mix::Deposits, &options).await?
        }
        Scenario::Transfers(options) => load::measure("transfers", Mix::Transfers, &options).await?,
        Scenario::Mixed(options) => visibility::measure(&options).await?,
        Scenario::Queries(options) => queries::measure(&options).await?,
        Scenario::Rebuild(options) => rebuild::measure(&options).await?,
        Scenario::Limits(options) => limits::measure(&options).await?,
        Scenario::Projection(options) => projection::measure(*options).await?,
    };
    tell(&report, json.as_deref())
}

fn tell(report: &Report, json: Option<&Path>) -> anyhow::Result<Exit> {
    let outcome = if report.is_right() { Exit::Done } else { Exit::BalancesDiffer };
    let exit = console::print(&report.table(), outcome);
    if let Some(path) = json {
        report.write_json(path)?;
    }
    Ok(exit)
}
