//! How durable the servers are, beyond what the log itself asks of them.
//!
//! How often they sync their files (`sync_interval`) is visible only to their own monitoring, so it cannot be checked
//! from here: this is logged once, when a bank starts, and not reported as a weakness.

use async_nats::jetstream::Context;
use tracing::{debug, info};

use super::NatsLog;
use crate::durability::Weakness;

const SERVER: &str = "nats";

/// Whether the server is part of a cluster.
pub(super) fn is_cluster(jetstream: &Context) -> bool {
    jetstream.client().server_info().cluster.is_some()
}

impl NatsLog {
    /// Server settings that promise less than a bank needs.
    pub async fn weaknesses(&self) -> Vec<Weakness> {
        info!(
            setting = "jetstream.sync_interval",
            "cannot read how often nats syncs to disk; a power failure costs at most a synchronisation"
        );
        if !is_cluster(&self.0.jetstream) {
            return Vec::new();
        }
        let Some(names) = self.0.names.first() else { return Vec::new() };
        match self.0.info("weaknesses", names).await {
            Ok(Some(stream)) => replicas(stream.config.num_replicas).into_iter().collect(),
            Ok(None) => Vec::new(),
            Err(failure) => {
                debug!(%failure, "cannot read the configuration of a stream");
                Vec::new()
            }
        }
    }
}

fn replicas(kept: usize) -> Option<Weakness> {
    (kept < 2).then(|| Weakness {
        server: SERVER,
        setting: "num_replicas",
        found: kept.to_string(),
        wanted: "3 (nats stream edit --replicas=3, and BANK_LOG_REPLICAS=3 for new streams)",
        risk: "if one server of the cluster fails, the partitions stored on it stop",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_on_one_server_of_a_cluster_is_a_weakness() {
        assert_eq!(replicas(1).unwrap().found, "1");
        assert_eq!(replicas(3), None);
    }
}
