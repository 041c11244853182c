use super::Ports;
use crate::clock::Clock;
use crate::config::{BackendSettings, BackendUrl};
use crate::id::Ids;
use crate::index::EmbeddedIndex;
use crate::lease::EmbeddedLeases;
use crate::log::{EmbeddedLog, LogOpenError};
use crate::partition::PartitionMap;
use crate::sqlite::{DataFolder, OpenError};
use crate::store::EmbeddedStore;

/// The backends of a bank without servers: four files in one folder, which one process works on at a time.
pub type Embedded = Ports<EmbeddedStore, EmbeddedLog, EmbeddedLeases, EmbeddedIndex>;

/// Why backends cannot be opened; nothing in them was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenBackendsError {
    /// A file or the folder.
    #[error(transparent)]
    File(#[from] OpenError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogOpenError),
}

impl OpenBackendsError {
    /// Whether another process works on the data folder.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::File(OpenError::InUse { .. }))
    }
}

impl Embedded {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// [`OpenBackendsError`] says what is wrong and what to do about it.
    pub async fn open(
        settings: &BackendSettings,
        partitions: PartitionMap,
        clock: &Clock,
        ids: &Ids,
    ) -> Result<Self, OpenBackendsError> {
        // The only kind there is: another one breaks this line.
        let [BackendUrl::Embedded, BackendUrl::Embedded, BackendUrl::Embedded, BackendUrl::Embedded] =
            [settings.store_url, settings.log_url, settings.lease_url, settings.index_url];
        let folder = DataFolder::open(&settings.data)?;
        Ok(Self {
            store: EmbeddedStore::open(&folder)?,
            log: EmbeddedLog::open(&folder, partitions, clock.clone(), ids.clone()).await?,
            leases: EmbeddedLeases::open(&folder)?,
            index: EmbeddedIndex::open(&folder)?,
        })
    }
}
