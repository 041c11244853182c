//! Writes the measured part of `docs/PERFORMANCE.md`, and its plots, from the files that `scripts/bench` leaves.
//!
//! - A figure is the median of its rounds, with the lowest and the highest.
//! - A missed goal is called so, and a missing measurement is named, never left out.
//! - The document outside of the markers is not touched.

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
