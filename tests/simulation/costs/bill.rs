use std::collections::BTreeMap;
use std::fmt::Write;

use crate::world::World;

/// The prefixes of port calls in the counts of the world.
const PORTS: [&str; 4] = ["store.", "log.", "lease.", "index."];

/// Counted inside a call: each document costs the index as much as a small call does.
pub(crate) const DOCUMENTS: &str = "document written";

/// How many calls of upkeep a bank may make beside a piece of work of a second or two. The test of the idle bank lists
/// these calls; it makes two dozen a second.
const UPKEEP_MAX: u64 = 60;

/// How often something may happen, and why that often.
pub(crate) struct Bound {
    what: &'static str,
    at_most: u64,
    because: &'static str,
}

pub(crate) const fn bound(what: &'static str, at_most: u64, because: &'static str) -> Bound {
    Bound { what, at_most, because }
}

/// How often each thing happened.
#[derive(Debug)]
pub(crate) struct Bill(BTreeMap<&'static str, u64>);

impl Bill {
    /// The cost of a piece of work, whichever process did it.
    pub(crate) async fn of(world: &World, work: impl Future<Output = ()>) -> Self {
        let before = counts(world);
        work.await;
        world.with(|state| assert_eq!(state.audit.violation(), None));
        let mut made = counts(world);
        for (what, count) in before {
            if let Some(made) = made.get_mut(what) {
                *made -= count;
            }
        }
        made.retain(|_, count| *count > 0);
        Self(made)
    }

    /// Compares every call with its bound; there must be no other calls.
    #[track_caller]
    pub(crate) fn assert(&self, bounds: &[Bound]) {
        self.assert_with_others(bounds, 0);
    }

    /// The same, beside the upkeep of an open bank.
    #[track_caller]
    pub(crate) fn assert_beside_upkeep(&self, bounds: &[Bound]) {
        self.assert_with_others(bounds, UPKEEP_MAX);
    }

    /// Compares some calls with their bounds, whatever else was called.
    #[track_caller]
    pub(crate) fn assert_at_most(&self, bounds: &[Bound]) {
        self.assert_with_others(bounds, u64::MAX);
    }

    /// Asserts that none of these calls was made, whatever else was called.
    #[track_caller]
    pub(crate) fn assert_without(&self, calls: &[&'static str]) {
        for call in calls {
            assert_eq!(self.0.get(call), None, "{call}: {:?}", self.0);
        }
    }

    #[track_caller]
    fn assert_with_others(&self, bounds: &[Bound], others_max: u64) {
        let mut wrong = String::new();
        for Bound { what, at_most, because } in bounds {
            let made = self.0.get(what).copied().unwrap_or_default();
            let lesson = match made {
                _ if made > *at_most => "too often",
                _ if made.saturating_mul(2) < *at_most => "the bound is too loose to notice anything",
                _ => continue,
            };
            writeln!(wrong, "  {what}: {made} times, at most {at_most}, because {because}: {lesson}")
                .expect("a string takes text");
        }
        let others = || self.0.iter().filter(|(what, _)| bounds.iter().all(|bound| bound.what != **what));
        let sum: u64 = others().map(|(_, count)| count).sum();
        if sum > others_max {
            writeln!(wrong, "  others: {sum} times, at most {others_max}: {:?}", others().collect::<Vec<_>>())
                .expect("a string takes text");
        }
        assert!(wrong.is_empty(), "what was asked costs more than it may:\n{wrong}");
    }
}

fn counts(world: &World) -> BTreeMap<&'static str, u64> {
    let is_billed = |what: &str| what == DOCUMENTS || PORTS.iter().any(|port| what.starts_with(port));
    world.with(|state| {
        let counts = state.trace.counts().iter().filter(|(what, _)| is_billed(what));
        counts.map(|(what, count)| (*what, *count)).collect()
    })
}
