//! CPU usage: every process of this machine, before and after a run.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::time::Instant;

/// Processes that used less than this part of a core are not listed.
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
    /// When the process began, in ticks since the system did: tells it from a later process of the same number. Its
    /// name would not, since kernel threads change theirs with each kind of work.
    began: u64,
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

    /// How much each process has used since the start, the largest first. Empty where the system has no `/proc`.
    pub(super) fn stop(self) -> Vec<ProcessCpu> {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut used: Vec<ProcessCpu> = samples()
            .into_iter()
            .map(|(pid, now)| {
                let before = self.before.get(&pid).filter(|before| before.began == now.began);
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
            let ticks = stat.utime + stat.stime;
            (stat.pid, Sample { began: stat.starttime, name: stat.comm, ticks, resident_bytes })
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

    fn work(milliseconds: u128) {
        let began = Instant::now();
        let mut sum = 0_u64;
        while began.elapsed().as_millis() < milliseconds {
            sum = black_box(sum.wrapping_add(1));
        }
    }

    fn mine(meter: CpuMeter) -> ProcessCpu {
        let is_mine = |process: &ProcessCpu| u32::try_from(process.pid) == Ok(std::process::id());
        meter.stop().into_iter().find(is_mine).expect("this process has worked")
    }

    #[test]
    fn who_works_is_listed() {
        let meter = CpuMeter::start();
        work(300);
        let mine = mine(meter);
        assert!(mine.cores > 0.1 && mine.resident_bytes > 0, "{mine:?}");
    }

    #[test]
    fn what_was_used_before_does_not_count_for_who_has_a_new_name() {
        const NAME: &str = "/proc/self/comm";
        work(1_000);
        let meter = CpuMeter::start();
        let name = std::fs::read_to_string(NAME).unwrap();
        std::fs::write(NAME, "renamed").unwrap();
        work(50);
        let mine = mine(meter);
        std::fs::write(NAME, name.trim_end()).unwrap();
        assert_eq!(mine.name, "renamed");
        // A second within 50 ms would be 20 cores, more than concurrent tests can use.
        assert!(mine.cores < 15.0, "{mine:?}");
    }
}
