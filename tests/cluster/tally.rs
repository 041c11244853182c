//! What a run has done to the bank, and what it saw: a run that did too little proves too little.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What happened in one scenario, or in all of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: [AtomicUsize; Count::ALL.len()],
}

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Services killed by `kill -9`.
    ServiceKills,
    /// Servers killed by `kill -9`.
    ServerKills,
    /// Processes frozen for longer than a lease, and woken.
    Zombies,
    /// Connections cut, silenced, delayed or robbed of their answers.
    Troubles,
    /// Services asked to end, and started again.
    Stops,
    /// Rebuilds begun.
    Rebuilds,
    /// Commands acknowledged, each found once in the store.
    Commands,
    /// Balances seen by observers, none of which went back.
    Sightings,
}

impl Count {
    const ALL: [Self; 8] = [
        Self::ServiceKills,
        Self::ServerKills,
        Self::Zombies,
        Self::Troubles,
        Self::Stops,
        Self::Rebuilds,
        Self::Commands,
        Self::Sightings,
    ];

    const fn title(self) -> &'static str {
        match self {
            Self::ServiceKills => "service kills",
            Self::ServerKills => "server kills",
            Self::Zombies => "zombies",
            Self::Troubles => "troubles",
            Self::Stops => "stops",
            Self::Rebuilds => "rebuilds",
            Self::Commands => "commands",
            Self::Sightings => "sightings",
        }
    }
}

/// What a whole run has to reach.
const KILLS_MIN: usize = 100;
const ZOMBIES_MIN: usize = 20;
const REBUILDS_MIN: usize = 10;

impl Tally {
    /// Counts one more.
    pub(crate) fn count(&self, count: Count) {
        self.add(count, 1);
    }

    /// Counts this many more.
    pub(crate) fn add(&self, count: Count, more: usize) {
        self.counts[count as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// Adds the counts of another tally.
    pub(crate) fn add_all(&self, other: &Self) {
        for count in Count::ALL {
            self.add(count, other.get(count));
        }
    }

    fn get(&self, count: Count) -> usize {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// What a whole run lacks; `None` if it did enough.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let kills = self.get(Count::ServiceKills) + self.get(Count::ServerKills);
        let lacking: Vec<String> = [
            ("kills", kills, KILLS_MIN),
            ("zombies", self.get(Count::Zombies), ZOMBIES_MIN),
            ("rebuilds", self.get(Count::Rebuilds), REBUILDS_MIN),
        ]
        .into_iter()
        .filter(|(_, reached, wanted)| reached < wanted)
        .map(|(what, reached, wanted)| format!("{reached} {what} of {wanted}"))
        .collect();
        (!lacking.is_empty()).then(|| lacking.join(", "))
    }
}

/// The head of a table of tallies.
pub(crate) fn head() -> String {
    let titles = Count::ALL.map(|count| format!("{:>15}", count.title())).concat();
    format!("{:<32}{:>9}{titles}", "", "seconds")
}

/// A line of the table.
pub(crate) struct Line<'a>(pub(crate) &'a str, pub(crate) Duration, pub(crate) &'a Tally);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, took, tally) = self;
        write!(f, "{name:<32}{:>9.1}", took.as_secs_f64())?;
        Count::ALL.iter().try_for_each(|count| write!(f, "{:>15}", tally.get(*count)))
    }
}
