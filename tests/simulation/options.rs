//! What one run looks like, drawn from its seed.

use std::time::Duration;

use shared::partition::PartitionMap;

use crate::pace::Pace;
use crate::world::fault::{Fault, Faults};
use crate::world::random::Random;

/// The shape of one run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) partitions: PartitionMap,
    /// How many processes of each kind there are.
    pub(crate) tellers: usize,
    pub(crate) forwarders: usize,
    pub(crate) projectors: usize,
    pub(crate) clients: usize,
    pub(crate) orders_each: u64,
    pub(crate) lease_ttl: Duration,
    pub(crate) pace: Pace,
    /// Whether workers compare heads. The comparison heals what it finds and so would hide faults; in half of the runs
    /// it is off. In those runs tails are lost only where the forwarder has to notice it.
    pub(crate) compare_heads: bool,
    /// How often the view is verified without being asked for. No schedule does that: each ends with a verdict on the
    /// whole view.
    pub(crate) verify_every: Option<Duration>,
    /// Whether the projection is rebuilt while the clients are at work.
    pub(crate) rebuilds: bool,
}

impl Options {
    /// The options of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut faults = Faults::draw(&mut random);
        let compare_heads = random.chance(500);
        if !compare_heads {
            let one_forwarder = random.chance(500);
            for (fault, _) in Fault::ALL {
                let kept = fault == Fault::TailLost && one_forwarder;
                if (fault.needs_heads() && !kept) || (fault.doubles_forwarders() && one_forwarder) {
                    faults.exclude(fault);
                }
            }
        }
        let mut count = |low: u64, high: u64| usize::try_from(random.between(low, high)).expect("small");
        let (tellers, forwarders, projectors, clients) = (count(1, 3), count(1, 3), count(1, 3), count(1, 4));
        let partitions = u16::try_from(random.between(1, 4)).expect("small");
        Self {
            seed,
            faults,
            partitions: PartitionMap::new(partitions).expect("there are partitions"),
            tellers,
            forwarders,
            projectors,
            clients,
            orders_each: random.between(4, 40),
            lease_ttl: Duration::from_millis(random.between(1_000, 5_000)),
            pace: Pace::OF_A_SCHEDULE,
            compare_heads,
            verify_every: None,
            rebuilds: random.chance(500),
        }
    }

    /// The options in one line, for the report of a failure.
    pub(crate) fn describe(&self) -> String {
        let Self { tellers, forwarders, projectors, clients, orders_each, lease_ttl, compare_heads, rebuilds, .. } =
            self;
        format!(
            "{tellers} tellers, {forwarders} forwarders, {projectors} projectors, {clients} clients with {orders_each} \
             orders each, {} partitions, leases of {} ms, heads {}, rebuilds {}; {}",
            self.partitions.partitions(),
            lease_ttl.as_millis(),
            if *compare_heads { "compared" } else { "not compared" },
            if *rebuilds { "on" } else { "off" },
            self.faults.describe(),
        )
    }
}
