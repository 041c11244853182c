//! `bank bench limits`: what HTTP and the servers can do without the bank, to compare its figures with.
//!
//! LI1  Every server is measured with the driver, the layout and the durability of the bank, but without the bank
//!      itself: no rules, no versions to compare, nobody downstream.
//! LI2  All writes go into a database, streams and an index of their own, whose names begin with the namespace. They
//!      are removed at the end, even if a limit cannot be measured or the run is stopped.
//! LI3  Only what was written, or read to its end, is counted.
//!
//! A run that is killed leaves them behind; their names contain `-limits-`.

mod http;
#[cfg(feature = "servers")]
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shared::config::BackendSettings;

use super::report::Report;

/// What is measured, and for how long.
#[derive(Args, Debug)]
pub(super) struct LimitsOptions {
    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,

    /// Duration of the measurement of each limit, in seconds
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    duration: u32,

    #[command(flatten)]
    backends: BackendSettings,
}

/// Measures the limits one after the other.
pub(super) async fn measure(options: &LimitsOptions) -> anyhow::Result<Report> {
    let duration = Duration::from_secs(options.duration.into());
    let mut report = Report::new("limits");
    report.setup.insert("measured", format!("{} s each", options.duration));
    http::measure(duration, &mut report).await?;
    of_servers(&options.backends, duration, &mut report).await?;
    Ok(report)
}

#[cfg(feature = "servers")]
async fn of_servers(backends: &BackendSettings, duration: Duration, report: &mut Report) -> anyhow::Result<()> {
    Box::pin(servers::measure(backends, duration, report)).await
}

#[cfg(not(feature = "servers"))]
#[expect(clippy::unused_async, reason = "a build with servers waits here")]
async fn of_servers(_: &BackendSettings, _: Duration, report: &mut Report) -> anyhow::Result<()> {
    report
        .setup
        .insert("servers", "not measured: this build has no drivers (cargo build --features servers)".to_owned());
    Ok(())
}
