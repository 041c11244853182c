use std::path::Path;
use std::sync::OnceLock;

use super::Ports;
use crate::clock::Clock;
use crate::config::{BackendSettings, IndexUrl, LeaseUrl, LogUrl, StoreUrl};
use crate::id::Ids;
use crate::index::{AnyIndex, EmbeddedIndex};
use crate::lease::{AnyLeases, EmbeddedLeases};
use crate::log::{AnyLog, EmbeddedLog, LogOpenError};
use crate::partition::PartitionMap;
use crate::sqlite::{DataFolder, OpenError};
use crate::store::{AnyStore, EmbeddedStore};

/// The backends that the settings name, each of any kind.
pub type AnyBackends = Ports<AnyStore, AnyLog, AnyLeases, AnyIndex>;

/// Why backends cannot be opened; nothing in them was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenBackendsError {
    /// A file or the folder.
    #[error(transparent)]
    File(#[from] OpenError),
    /// The embedded log.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// MongoDB.
    #[cfg(feature = "mongodb")]
    #[error("the store: {0}")]
    Mongo(#[from] crate::store::MongoOpenError),
    /// NATS.
    #[cfg(feature = "nats")]
    #[error("the log: {0}")]
    Nats(#[from] crate::log::NatsOpenError),
    /// Redis.
    #[cfg(feature = "redis")]
    #[error("the leases: {0}")]
    Redis(crate::error::BackendError),
    /// Elasticsearch.
    #[cfg(feature = "elasticsearch")]
    #[error("the index: {0}")]
    Elastic(#[from] crate::index::ElasticUrlError),
}

impl OpenBackendsError {
    /// Whether another process works on the data folder.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::File(OpenError::InUse { .. }))
    }
}

impl AnyBackends {
    /// Opens what the settings name. The data folder is made and locked only if one of them is embedded.
    ///
    /// # Errors
    /// [`OpenBackendsError`] says what is wrong and what to do about it.
    pub async fn open(
        settings: &BackendSettings,
        partitions: PartitionMap,
        clock: &Clock,
        ids: &Ids,
    ) -> Result<Self, OpenBackendsError> {
        let folder = Folder::new(&settings.data);
        Ok(Self {
            store: match &settings.store_url {
                StoreUrl::Embedded => AnyStore::Embedded(EmbeddedStore::open(&folder.open()?)?),
                #[cfg(feature = "mongodb")]
                StoreUrl::Mongo(url) => {
                    let database = settings.namespace.as_str();
                    AnyStore::Mongo(Box::pin(crate::store::MongoStore::open(url.as_str(), database)).await?)
                }
            },
            log: match &settings.log_url {
                LogUrl::Embedded => {
                    let log = EmbeddedLog::open(&folder.open()?, partitions, clock.clone(), ids.clone()).await?;
                    AnyLog::Embedded(log)
                }
                #[cfg(feature = "nats")]
                LogUrl::Nats(url) => {
                    let log = crate::log::NatsLog::open(url.as_str(), &settings.namespace, partitions, ids.clone());
                    AnyLog::Nats(Box::pin(log).await?)
                }
            },
            leases: match &settings.lease_url {
                LeaseUrl::Embedded => AnyLeases::Embedded(EmbeddedLeases::open(&folder.open()?)?),
                #[cfg(feature = "redis")]
                LeaseUrl::Redis(url) => {
                    let leases = Box::pin(crate::lease::RedisLeases::open(url.as_str(), &settings.namespace));
                    AnyLeases::Redis(leases.await.map_err(OpenBackendsError::Redis)?)
                }
            },
            index: match &settings.index_url {
                IndexUrl::Embedded => AnyIndex::Embedded(EmbeddedIndex::open(&folder.open()?)?),
                #[cfg(feature = "elasticsearch")]
                IndexUrl::Elastic(url) => {
                    AnyIndex::Elastic(crate::index::ElasticIndex::new(url.as_str(), &settings.namespace)?)
                }
            },
        })
    }
}

/// The data folder, made and locked when the first backend asks for it.
struct Folder<'a> {
    path: &'a Path,
    opened: OnceLock<DataFolder>,
}

impl<'a> Folder<'a> {
    const fn new(path: &'a Path) -> Self {
        Self { path, opened: OnceLock::new() }
    }

    fn open(&self) -> Result<DataFolder, OpenError> {
        if let Some(folder) = self.opened.get() {
            return Ok(folder.clone());
        }
        let folder = DataFolder::open(self.path)?;
        Ok(self.opened.get_or_init(|| folder).clone())
    }
}
