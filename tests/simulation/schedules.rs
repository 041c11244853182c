//! Many schedules, in parallel on all cores, and what they reached together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::run::{Report, run};
use crate::settings::Settings;
use crate::world::fault::Fault;

/// From this many schedules on, every fault and every branch must have been reached.
const SEEDS_TO_REACH_ALL: u64 = 2_000;

/// How often each must have been reached then.
const REACHED_MIN: u64 = 25;

/// What the bank does to recover, as the world sees it: each must be reached, or the schedules prove less than they
/// claim.
const BRANCHES: &[&str] = &[
    "account moves on",
    "account parked",
    "acquire: held",
    "append: conflict",
    "append: taken before",
    "apply: fenced",
    "apply: refused",
    "apply: sealed",
    "apply: stale document",
    "document repaired",
    "feed: position lost",
    "generation discarded",
    "generation promoted",
    "generation sealed",
    "lease acquired",
    "lease released",
    "publish: conflict",
    "publish: full",
    "reader: moved",
    "register moved",
    "renew: lost",
    "renewed",
    "request arrives late",
    "trimmed",
];

/// Seeds that failed once, with what they found.
const REGRESSIONS: &str = include_str!("regressions.txt");

fn regressions() -> impl Iterator<Item = u64> {
    let seeds = REGRESSIONS.lines().filter_map(|line| line.split_whitespace().next());
    seeds.filter(|word| !word.starts_with('#')).map(|word| word.parse().expect("a line begins with a seed"))
}

/// The sum of many schedules.
#[derive(Debug, Default)]
struct Tally {
    schedules: u64,
    virtual_seconds: u64,
    counts: BTreeMap<&'static str, u64>,
    failure: Option<(u64, String)>,
}

impl Tally {
    fn add(&mut self, report: Report) {
        self.schedules += 1;
        self.virtual_seconds += report.lasted.as_secs();
        for (label, count) in report.counts {
            *self.counts.entry(label).or_default() += count;
        }
        let earlier = self.failure.as_ref().is_some_and(|(seed, _)| *seed < report.seed);
        if let Some(failure) = report.failure.filter(|_| !earlier) {
            self.failure = Some((report.seed, failure));
        }
    }

    /// Fails if a schedule did, and says how to see that one again.
    #[track_caller]
    fn assert_lawful(&self) {
        if let Some((seed, failure)) = &self.failure {
            panic!(
                "{failure}\nrun it again, with its log: \
                 BANK_SIMULATION_SEED={seed} cargo test --profile sim --test simulation schedules::every\n\
                 what the lines mean: CONTRIBUTING.md, \"When a schedule fails\""
            );
        }
    }

    /// What was not reached often enough.
    fn unreached(&self) -> Vec<String> {
        let wanted = Fault::ALL.iter().map(|(_, name)| *name).chain(BRANCHES.iter().copied());
        wanted
            .map(|label| (label, self.counts.get(label).copied().unwrap_or_default()))
            .filter(|(_, count)| *count < REACHED_MIN)
            .map(|(label, count)| format!("{label} ({count})"))
            .collect()
    }
}

/// Runs seeds on every core until all are done or one has failed.
fn explore(seeds: &[u64]) -> Tally {
    let (next, stop, tally) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("seeds fit memory");
                    let Some(seed) = seeds.get(index) else { return };
                    let report = run(*seed);
                    stop.fetch_or(report.failure.is_some(), Ordering::Relaxed);
                    tally.lock().expect("a thread that adds up does not panic").add(report);
                }
            });
        }
    });
    tally.into_inner().expect("a thread that adds up does not panic")
}

/// Writes past the test harness, which hides the output of passing tests, so that progress is visible.
fn say(text: &str) {
    std::io::stderr().lock().write_all(text.as_bytes()).expect("standard error takes text");
}

fn show(tally: &Tally, seconds: f64) {
    let mut text = format!(
        "\nsimulation: {} schedules, {} virtual hours, {:.0} schedules/s\n",
        tally.schedules,
        tally.virtual_seconds / 3_600,
        f64::from(u32::try_from(tally.schedules).unwrap_or(u32::MAX)) / seconds,
    );
    for (label, count) in &tally.counts {
        writeln!(text, "  {label:<28}{count:>12}").expect("a string takes text");
    }
    say(&text);
}

#[test]
fn every_schedule_keeps_the_laws() {
    let settings = Settings::read();
    if settings.only.is_some() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().with_ansi(false).init();
    }
    let seeds: Vec<u64> = match settings.only {
        Some(seed) => vec![seed],
        None => (settings.first..settings.first + settings.seeds).collect(),
    };
    let began = Instant::now();
    let tally = explore(&seeds);
    show(&tally, began.elapsed().as_secs_f64());
    tally.assert_lawful();
    if tally.schedules >= SEEDS_TO_REACH_ALL {
        let unreached = tally.unreached();
        assert!(unreached.is_empty(), "reached fewer than {REACHED_MIN} times: {}", unreached.join(", "));
    }
}

#[test]
fn seeds_that_failed_once_pass() {
    let seeds: Vec<u64> = regressions().collect();
    explore(&seeds).assert_lawful();
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        assert_eq!(run(seed).trace, run(seed).trace, "seed {seed} is not determined by its number");
    }
}
