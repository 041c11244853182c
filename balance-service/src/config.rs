use std::time::Duration;

use shared::lease::Holder;
use shared::partition::PartitionMap;

/// How a balance service works.
#[derive(Clone, Debug)]
pub struct BalanceConfig {
    /// The name of this process among all that share the partitions.
    pub holder: Holder,
    /// How accounts are spread over partitions.
    pub partitions: PartitionMap,
    /// How long leases live without renewal.
    pub lease_ttl: Duration,
    /// How often all heads are compared with the store; `None` for never.
    pub reconcile_every: Option<Duration>,
    /// How long the previous generation is kept and fed after a switch.
    pub keep_previous: Duration,
}
