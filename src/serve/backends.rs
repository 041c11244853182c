use anyhow::Result;
use shared::backends::Ports;
use shared::clock::Clock;
use shared::config::{BackendSettings, BackendUrl};
use shared::id::Ids;
use shared::index::EmbeddedIndex;
use shared::lease::EmbeddedLeases;
use shared::log::EmbeddedLog;
use shared::partition::PartitionMap;
use shared::sqlite::DataFolder;
use shared::store::EmbeddedStore;

/// The backends of a bank without servers.
pub(super) type Embedded = Ports<EmbeddedStore, EmbeddedLog, EmbeddedLeases, EmbeddedIndex>;

/// Opens what the settings name. Another process on the same data folder is an [`shared::sqlite::OpenError::InUse`].
pub(super) async fn open(
    settings: &BackendSettings,
    partitions: PartitionMap,
    clock: &Clock,
    ids: &Ids,
) -> Result<Embedded> {
    // The only kind there is: another one breaks this line.
    let [BackendUrl::Embedded, BackendUrl::Embedded, BackendUrl::Embedded, BackendUrl::Embedded] =
        [settings.store_url, settings.log_url, settings.lease_url, settings.index_url];
    let folder = DataFolder::open(&settings.data)?;
    Ok(Ports {
        store: EmbeddedStore::open(&folder)?,
        log: EmbeddedLog::open(&folder, partitions, clock.clone(), ids.clone()).await?,
        leases: EmbeddedLeases::open(&folder)?,
        index: EmbeddedIndex::open(&folder)?,
    })
}
