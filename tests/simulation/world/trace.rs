//! What happened in a run, in order: the same seed gives the same trace, and a failing run shows the end of it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Virtual milliseconds since the run began.
    at: u64,
    /// The number of the process that did it; [`CHAOS`] for the simulator.
    process: usize,
    /// What it was.
    label: &'static str,
    /// What it was about: mostly the end of an account's id, or a partition.
    subject: u64,
    /// How far it came: mostly a version, an offset or a number of things.
    reached: u64,
}

/// Not the number of a process: what the simulator does itself.
pub(crate) const CHAOS: usize = usize::MAX;

/// Everything that happened, a hash of it, and how often each kind of thing happened.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    entries: Vec<Entry>,
    counts: BTreeMap<&'static str, u64>,
    hash: u64,
}

impl Trace {
    /// Notes that something happened.
    pub(crate) fn note(&mut self, at: u64, process: usize, label: &'static str, subject: u64, reached: u64) {
        self.entries.push(Entry { at, process, label, subject, reached });
        self.count(label);
        for word in [at, process as u64, subject, reached] {
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        for byte in label.bytes() {
            self.hash = (self.hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    /// Counts something that is not worth an entry.
    pub(crate) fn count(&mut self, label: &'static str) {
        *self.counts.entry(label).or_default() += 1;
    }

    /// How often each kind of thing happened.
    pub(crate) const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// A number that is almost certainly different for any other trace.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// The last entries, a line each.
    pub(crate) fn tail(&self, lines: usize, names: &[String]) -> String {
        let skipped = self.entries.len().saturating_sub(lines);
        let mut text = format!("  … {skipped} earlier entries\n");
        for entry in &self.entries[skipped..] {
            let name = names.get(entry.process).map_or("—", String::as_str);
            writeln!(text, "  {entry} {name}").expect("a string takes text");
        }
        text
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, label, subject, reached, .. } = self;
        write!(f, "{at:>7} ms  {label:<26} {subject:>6x} {reached:>6}")
    }
}
