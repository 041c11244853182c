use std::time::Duration;

use shared::lease::Holder;
use shared::partition::PartitionMap;

/// How a forwarder works.
#[derive(Clone, Debug)]
pub struct ForwarderConfig {
    /// The name of this process among all that compete for the lease.
    pub holder: Holder,
    /// How accounts are spread over partitions.
    pub partitions: PartitionMap,
    /// How long the lease lives without renewal.
    pub lease_ttl: Duration,
    /// Records younger than this are kept in the log even when nobody needs them.
    pub log_window: Duration,
    /// How often the log is trimmed.
    pub trim_every: Duration,
}
