use std::time::Duration;

use shared::lease::Holder;
use shared::partition::PartitionMap;
use shared::process::Process;

/// How often the log is trimmed: often enough that a busy log does not grow by more than some seconds of events beyond
/// its window.
const TRIM_EVERY: Duration = Duration::from_secs(10);

/// The configuration of a forwarder.
#[derive(Clone, Debug)]
pub struct ForwarderConfig {
    /// The name of this process among the candidates for the lease.
    pub holder: Holder,
    /// How accounts are spread over partitions.
    pub partitions: PartitionMap,
    /// How long the lease lives without renewal.
    pub lease_ttl: Duration,
    /// Records younger than this are kept in the log even when nobody needs them, unless their partition is full.
    pub log_window: Duration,
    /// How often the log is trimmed.
    pub trim_every: Duration,
}

impl ForwarderConfig {
    /// Built from the settings of a process.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        let pipeline = &process.settings.pipeline;
        Self {
            holder: process.holder.clone(),
            partitions: process.partitions,
            lease_ttl: pipeline.lease_ttl(),
            log_window: pipeline.log_window(),
            trim_every: TRIM_EVERY,
        }
    }
}
