//! Who used the CPU: every process of this machine, before and behind a run.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::time::Instant;

/// Who used less than this part of a core is not listed.
const CORES_MIN: f64 = 0.01;

/// What one process used.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ProcessCpu {
    pub(super) name: String,
    pub(super) pid: i32,
    /// Cores on average, user and system together.
    pub(super) cores: f64,
    /// Memory in use now, in bytes.
    pub(super) resident_bytes: u64,
}

struct Sample {
    name: String,
    ticks: u64,
    resident_bytes: u64,
}

/// Runs while something is measured.
pub(super) struct CpuMeter {
    began: Instant,
    before: BTreeMap<i32, Sample>,
}

impl CpuMeter {
    pub(super) fn start() -> Self {
        Self { began: Instant::now(), before: samples() }
    }

    /// Who used how much since, the largest first. Empty where the system has no `/proc`.
    pub(super) fn stop(self) -> Vec<ProcessCpu> {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut used: Vec<ProcessCpu> = samples()
            .into_iter()
            .map(|(pid, now)| {
                let before = self.before.get(&pid).filter(|before| before.name == now.name);
                let ticks = now.ticks.saturating_sub(before.map_or(0, |before| before.ticks));
                ProcessCpu { name: now.name, pid, cores: cores(ticks, seconds), resident_bytes: now.resident_bytes }
            })
            .filter(|process| process.cores >= CORES_MIN)
            .collect();
        used.sort_by(|a, b| b.cores.total_cmp(&a.cores));
        used
    }
}

#[cfg(target_os = "linux")]
fn samples() -> BTreeMap<i32, Sample> {
    let Ok(processes) = procfs::process::all_processes() else { return BTreeMap::new() };
    let stats = processes.filter_map(|process| process.ok()?.stat().ok());
    stats
        .map(|stat| {
            let resident_bytes = stat.rss.saturating_mul(procfs::page_size());
            (stat.pid, Sample { ticks: stat.utime + stat.stime, name: stat.comm, resident_bytes })
        })
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn samples() -> BTreeMap<i32, Sample> {
    BTreeMap::new()
}

#[cfg(target_os = "linux")]
fn ticks_per_second() -> u64 {
    procfs::ticks_per_second()
}

#[cfg(not(target_os = "linux"))]
fn ticks_per_second() -> u64 {
    1
}

#[expect(clippy::cast_precision_loss, reason = "a process has run for far less than 2^53 ticks")]
fn cores(ticks: u64, seconds: f64) -> f64 {
    ticks as f64 / ticks_per_second() as f64 / seconds
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn who_works_is_listed() {
        let meter = CpuMeter::start();
        let began = Instant::now();
        let mut sum = 0_u64;
        while began.elapsed().as_millis() < 300 {
            sum = black_box(sum.wrapping_add(1));
        }
        let me = i32::try_from(std::process::id()).unwrap();
        let used = meter.stop();
        let mine = used.iter().find(|process| process.pid == me).unwrap();
        assert!(mine.cores > 0.1 && mine.resident_bytes > 0, "{mine:?}");
    }
}
