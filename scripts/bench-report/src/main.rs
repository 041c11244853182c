//! Makes the measured part of `docs/PERFORMANCE.md`, and its plots, of the files that `scripts/bench` leaves.
//!
//! - A figure is the median of its rounds, with the lowest and the highest.
//! - A goal that is not reached is called so, and what was not measured is called that, never left out.
//! - What stands outside of the markers in the document is not touched.

mod cost;
mod document;
mod goal;
mod number;
mod plot;
mod report;
mod result;
mod spread;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use goal::Goals;
use result::Results;

/// Makes the measured part of docs/PERFORMANCE.md, and its plots, of what scripts/bench has measured.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The folder with the results
    #[arg(long, default_value = "target/bench")]
    results: PathBuf,

    /// The document whose part between the markers is written
    #[arg(long, default_value = "docs/PERFORMANCE.md")]
    document: PathBuf,

    /// The folder of the plots; the document links to it by its last name
    #[arg(long, default_value = "docs/performance")]
    plots: PathBuf,
}

fn main() -> ExitCode {
    match make(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench-report: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn make(cli: &Cli) -> anyhow::Result<()> {
    let (goals, results) = (Goals::read()?, Results::read(&cli.results)?);
    let drawn = plot::draw_all(&results, &cli.plots)?;
    document::replace(&cli.document, &report::text(&goals, &results, &drawn))
}
