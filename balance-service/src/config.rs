use std::time::Duration;

use shared::lease::Holder;
use shared::partition::PartitionMap;
use shared::process::Process;

/// The configuration of a balance service.
#[derive(Clone, Debug)]
pub struct BalanceConfig {
    /// The name of this process among those that share the partitions.
    pub holder: Holder,
    /// How accounts are spread over partitions.
    pub partitions: PartitionMap,
    /// How long leases last without renewal.
    pub lease_ttl: Duration,
    /// How often all heads are compared with the store; `None` for never.
    pub reconcile_every: Option<Duration>,
    /// How often the view is verified; `None` for never.
    pub verify_every: Option<Duration>,
    /// How long the previous generation is kept and fed after a switch.
    pub keep_previous: Duration,
}

impl BalanceConfig {
    /// The configuration that the settings of a process describe.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        let pipeline = &process.settings.pipeline;
        Self {
            holder: process.holder.clone(),
            partitions: process.partitions,
            lease_ttl: pipeline.lease_ttl(),
            reconcile_every: pipeline.reconcile_every(),
            verify_every: pipeline.verify_every(),
            keep_previous: pipeline.keep_previous(),
        }
    }
}
