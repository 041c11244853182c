//! What a run has measured: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::check::Check;
use super::cpu::ProcessCpu;
use super::latency::{Latencies, Percentiles};
use super::load::Measured;
use super::options::LoadOptions;

/// Everything a scenario reports.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    /// How the run was set up.
    pub(super) setup: BTreeMap<&'static str, String>,
    /// Figures by name; the name ends in the unit.
    pub(super) figures: BTreeMap<&'static str, f64>,
    pub(super) latencies_ms: Vec<LatencyRow>,
    /// Answers by kind.
    pub(super) answers: BTreeMap<String, u64>,
    pub(super) cpu: Vec<ProcessCpu>,
    /// Absent where nothing was changed.
    pub(super) check: Option<Check>,
}

/// Latencies of one kind, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct LatencyRow {
    pub(super) of: &'static str,
    pub(super) count: u64,
    #[serde(flatten)]
    pub(super) percentiles: Percentiles,
}

impl Report {
    pub(super) fn new(scenario: &'static str) -> Self {
        Self {
            scenario,
            setup: BTreeMap::new(),
            figures: BTreeMap::new(),
            latencies_ms: Vec::new(),
            answers: BTreeMap::new(),
            cpu: Vec::new(),
            check: None,
        }
    }

    /// The report of a load; its scenario adds the rest.
    pub(super) fn of_load(
        scenario: &'static str,
        options: &LoadOptions,
        measured: &Measured,
        cpu: Vec<ProcessCpu>,
    ) -> Self {
        let mut report = Self::new(scenario);
        report.set_up(options);
        report.figures.insert("done_per_second", per_second(measured.done, measured.duration));
        report.add_latencies("answer", &measured.latencies);
        if let (None, Some(interval)) = (options.rate, mean_interval(measured, options.connections)) {
            report.add_latencies("answer, corrected", &measured.latencies.corrected(interval));
        }
        report.answers.clone_from(&measured.answers);
        report.cpu = cpu;
        report
    }

    pub(super) fn set_up(&mut self, options: &LoadOptions) {
        let pace = options.rate.map_or_else(|| "closed".to_owned(), |rate| format!("open, {rate} per second"));
        let choice = options.zipf.map_or_else(|| "uniform".to_owned(), |exponent| format!("zipf {exponent}"));
        self.setup.extend([
            ("model", pace),
            ("connections", options.connections.to_string()),
            ("accounts", format!("{}, {choice}", options.accounts)),
            ("measured", format!("{} s after {} s", options.duration().as_secs(), options.warmup().as_secs())),
        ]);
    }

    pub(super) fn add_latencies(&mut self, of: &'static str, latencies: &Latencies) {
        let row = latencies.percentiles().map(|percentiles| LatencyRow { of, count: latencies.count(), percentiles });
        self.latencies_ms.extend(row);
    }

    /// Whether every balance that was compared is right.
    pub(super) fn is_right(&self) -> bool {
        self.check.as_ref().is_none_or(|check| check.wrong_count == 0)
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{}\n", self.scenario);
        let lines = self.setup.iter().map(|(name, value)| (*name, value.clone()));
        for (name, value) in lines.chain(self.figures.iter().map(|(name, value)| (*name, figure(*value)))) {
            writeln!(text, "  {name:36} {value}").expect("a string takes everything");
        }
        for (name, count) in &self.answers {
            writeln!(text, "  {:36} {count}", format!("answers {name}")).expect("a string takes everything");
        }
        if !self.latencies_ms.is_empty() {
            text += &table(&["latency in ms", "count", "p50", "p90", "p99", "p99.9", "max"], self.latency_rows());
        }
        if !self.cpu.is_empty() {
            text += &table(&["process", "pid", "cores", "MiB"], self.cpu_rows());
        }
        if let Some(check) = &self.check {
            let Check { checked, used, uncertain, wrong, wrong_count } = check;
            let verdict = if *wrong_count == 0 { "right" } else { "WRONG: discard the figures above" };
            writeln!(
                text,
                "balances: {checked} of {used} used accounts compared, {wrong_count} wrong, {uncertain} uncertain: {verdict}"
            )
            .expect("a string takes everything");
            for finding in wrong {
                writeln!(text, "  {finding}").expect("a string takes everything");
            }
        }
        text
    }

    /// For programs.
    pub(super) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        fs::write(path, json).with_context(|| unwritable(path))
    }

    fn latency_rows(&self) -> Vec<Vec<String>> {
        let row = |LatencyRow { of, count, percentiles }: &LatencyRow| {
            let Percentiles { p50, p90, p99, p999, max } = percentiles;
            let figures = [p50, p90, p99, p999, max].map(|value| format!("{value:.2}"));
            [(*of).to_owned(), count.to_string()].into_iter().chain(figures).collect()
        };
        self.latencies_ms.iter().map(row).collect()
    }

    fn cpu_rows(&self) -> Vec<Vec<String>> {
        let row = |ProcessCpu { name, pid, cores, resident_bytes }: &ProcessCpu| {
            vec![name.clone(), pid.to_string(), format!("{cores:.2}"), (resident_bytes >> 20).to_string()]
        };
        self.cpu.iter().map(row).collect()
    }
}

/// Fails if a report could not be written to this file, before a run that would take minutes for nothing. Leaves
/// everything as it was, since the run may fail, too.
pub(super) fn try_out(path: &Path) -> anyhow::Result<()> {
    open_and_leave(path).with_context(|| unwritable(path))
}

fn open_and_leave(path: &Path) -> io::Result<()> {
    match File::create_new(path) {
        Ok(_) => fs::remove_file(path),
        Err(failure) if failure.kind() == ErrorKind::AlreadyExists => {
            // Not a pipe: whoever reads from it would take this for the whole report.
            let is_opened = fs::metadata(path).is_ok_and(|there| there.is_file() || there.is_dir());
            if is_opened { File::options().append(true).open(path).map(drop) } else { Ok(()) }
        }
        Err(failure) => Err(failure),
    }
}

fn unwritable(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The mean interval between the requests of a connection.
fn mean_interval(measured: &Measured, connections: u16) -> Option<Duration> {
    let each = u32::try_from(measured.done).ok()?.checked_div(u32::from(connections))?;
    measured.duration.checked_div(each)
}

/// How many per second.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wrong_count: usize) -> Check {
        Check { checked: 3, used: 3, uncertain: 0, wrong: vec!["an account".to_owned(); wrong_count], wrong_count }
    }

    #[test]
    fn a_wrong_balance_spoils_the_run_and_stands_in_the_table() {
        let mut report = Report::new("commands");
        assert!(report.is_right());
        report.check = Some(check(0));
        assert!(report.is_right() && report.table().contains("right"));
        report.check = Some(check(1));
        assert!(!report.is_right() && report.table().contains("WRONG"));
    }

    #[test]
    fn the_file_holds_what_the_table_shows() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_millis(5));
        let mut report = Report::new("commands");
        report.figures.insert("done_per_second", 12_345.6);
        report.add_latencies("answer", &latencies);
        let file = tempfile::NamedTempFile::new().unwrap();
        report.write_json(file.path()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
        assert_eq!(json["figures"]["done_per_second"], 12_345.6);
        assert_eq!(json["latencies_ms"][0]["count"], 1);
        assert!(report.table().contains("12346") && report.table().contains("5.00"));
    }

    #[test]
    fn a_file_is_tried_out_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new.json"), folder.path().join("old.json"));
        fs::write(&old, "{}").unwrap();
        try_out(&new).unwrap();
        try_out(&old).unwrap();
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "{}");
        for wrong in [folder.path().to_owned(), folder.path().join("absent/new.json"), old.join("new.json")] {
            let refusal = format!("{:#}", try_out(&wrong).unwrap_err());
            assert!(refusal.starts_with(&format!("cannot write {}: ", wrong.display())), "{refusal}");
        }
    }
}
