//! The lease of a partition, by which its owner is known.

use shared::error::BackendError;
use shared::lease::{LeaseName, LeaseStore};
use shared::partition::Partition;

/// The prefix of the leases of partitions.
pub(crate) const PARTITIONS: &str = "balance/partition/";

/// Whether a process owns a partition, as far as the leases tell.
pub(crate) async fn has_owner<L: LeaseStore>(leases: &L, partition: Partition) -> Result<bool, BackendError> {
    let name = name_of(partition);
    Ok(leases.list(&name.0).await?.iter().any(|held| held.name == name))
}

/// The name of the lease of a partition.
pub(crate) fn name_of(partition: Partition) -> LeaseName {
    LeaseName(format!("{PARTITIONS}{}", partition.get()).into())
}

/// The partition whose lease has this name; `None` if it is no partition's.
pub(crate) fn partition_of(name: &LeaseName) -> Option<Partition> {
    name.0.strip_prefix(PARTITIONS)?.parse().ok().map(Partition::new)
}
