//! What can go wrong, and how often it does in one run.
//!
//! Each run draws a subset of the faults and a rate for each of them, and a quarter of the runs draws none: faults that
//! always come together hide each other, and a run without any shows what the normal path needs.

use std::fmt::Write;
use std::time::Duration;

use super::random::Random;

/// Something that goes wrong in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub(crate) enum Fault {
    /// A call fails without effect.
    ErrorBefore,
    /// A call takes effect, but its answer is lost.
    ErrorAfter,
    /// A call takes much longer than a lease lives, before or after its effect.
    Late,
    /// A driver repeats a call that took effect; the caller sees the second answer.
    Twice,
    /// A call of several steps stops between two of them.
    Cut,
    /// A batch has fewer members than it could have.
    Short,
    /// A process ends without running a destructor; what it had sent may still arrive.
    Crash,
    /// A process is frozen for longer than a lease lives, then goes on.
    Freeze,
    /// A process's wall clock is hours away from the others'.
    Skew,
    /// All leases, and all that is known of their epochs, are lost.
    LeasesFlushed,
    /// A lease expires early.
    LeaseExpired,
    /// A partition loses its end, and the offsets are assigned again.
    TailLost,
    /// A partition is emptied and begins another incarnation.
    LogEmptied,
    /// A partition is trimmed under its readers.
    LogTrimmed,
    /// A partition is full for a while.
    LogFull,
    /// The store no longer knows older feed positions.
    FeedLost,
    /// A feed repeats writes from before its position.
    FeedRepeats,
    /// Snapshots are lost.
    SnapshotsLost,
    /// Somebody writes an event that no release knows yet.
    Poison,
    /// The index refuses one document of a batch for good.
    DocumentRefused,
    /// Somebody deletes documents by hand.
    DocumentsDeleted,
    /// Somebody deletes the active generation by hand.
    GenerationDeleted,
    /// Somebody changes a document of the active generation by hand.
    DocumentChanged,
    /// Somebody changes a document of a generation that is being filled.
    FillingChanged,
}

impl Fault {
    /// Every fault, with the name under which it is counted.
    pub(crate) const ALL: [(Self, &'static str); 24] = [
        (Self::ErrorBefore, "fault: error before"),
        (Self::ErrorAfter, "fault: error after"),
        (Self::Late, "fault: late"),
        (Self::Twice, "fault: twice"),
        (Self::Cut, "fault: cut"),
        (Self::Short, "fault: short"),
        (Self::Crash, "fault: crash"),
        (Self::Freeze, "fault: freeze"),
        (Self::Skew, "fault: skew"),
        (Self::LeasesFlushed, "fault: leases flushed"),
        (Self::LeaseExpired, "fault: lease expired"),
        (Self::TailLost, "fault: tail lost"),
        (Self::LogEmptied, "fault: log emptied"),
        (Self::LogTrimmed, "fault: log trimmed"),
        (Self::LogFull, "fault: log full"),
        (Self::FeedLost, "fault: feed lost"),
        (Self::FeedRepeats, "fault: feed repeats"),
        (Self::SnapshotsLost, "fault: snapshots lost"),
        (Self::Poison, "fault: poison"),
        (Self::DocumentRefused, "fault: document refused"),
        (Self::DocumentsDeleted, "fault: documents deleted"),
        (Self::GenerationDeleted, "fault: generation deleted"),
        (Self::DocumentChanged, "fault: document changed"),
        (Self::FillingChanged, "fault: filling changed"),
    ];

    /// The name under which the fault is counted.
    pub(crate) const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether only the comparison of heads, or the operator, can find the damage of the fault.
    pub(crate) const fn needs_heads(self) -> bool {
        matches!(self, Self::TailLost | Self::DocumentsDeleted | Self::DocumentChanged)
    }

    /// Whether two forwarders may be at work after it. Then one of them can fill up a lost tail before the other
    /// notices the loss, and only the comparison of heads finds what is missing.
    pub(crate) const fn doubles_forwarders(self) -> bool {
        matches!(self, Self::Late | Self::Freeze | Self::LeasesFlushed | Self::LeaseExpired)
    }

    /// Whether the bank is busy for a while after it; such a fault strikes less often.
    pub(crate) const fn is_grave(self) -> bool {
        matches!(self, Self::FeedLost | Self::LogEmptied | Self::Poison)
    }
}

/// The rates a fault can have, per mille of its occasions.
const RATES: [u64; 4] = [0, 10, 50, 150];

/// How often each fault strikes in one run, and how long calls take.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    rates: [u64; Fault::ALL.len()],
    latency_max_ms: u64,
}

impl Faults {
    /// A world in which nothing goes wrong and nothing takes time.
    pub(crate) const fn none() -> Self {
        Self { rates: [0; Fault::ALL.len()], latency_max_ms: 0 }
    }

    /// A world in which nothing goes wrong, and each leg of a call takes up to this many milliseconds.
    pub(crate) const fn slow(latency_max_ms: u64) -> Self {
        Self { latency_max_ms, ..Self::none() }
    }

    /// The faults of one run.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let latency_max_ms = random.pick(&[0, 2, 10, 40]);
        let mut faults = Self { latency_max_ms, ..Self::none() };
        if random.chance(250) {
            return faults;
        }
        for rate in &mut faults.rates {
            *rate = random.pick(&RATES);
        }
        faults
    }

    /// How often a fault strikes, in per mille of its occasions.
    pub(crate) const fn rate(&self, fault: Fault) -> u64 {
        self.rates[fault as usize]
    }

    /// Whether nothing goes wrong in this run.
    pub(crate) fn are_none(&self) -> bool {
        self.rates.iter().all(|rate| *rate == 0)
    }

    /// Rules a fault out.
    pub(crate) const fn exclude(&mut self, fault: Fault) {
        self.rates[fault as usize] = 0;
    }

    /// From now on nothing goes wrong; calls still take time.
    pub(crate) const fn heal(&mut self) {
        self.rates = [0; Fault::ALL.len()];
    }

    /// The faults of this run with their rates, for the report of a failure.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("latency up to {} ms", self.latency_max_ms);
        for (fault, name) in Fault::ALL {
            if self.rate(fault) > 0 {
                write!(text, ", {} {}‰", name.trim_start_matches("fault: "), self.rate(fault))
                    .expect("a string takes text");
            }
        }
        text
    }

    /// How long one leg of a call takes; often no time at all.
    pub(crate) const fn leg(&self, random: &mut Random) -> Duration {
        Duration::from_millis(random.below(self.latency_max_ms + 1))
    }
}
