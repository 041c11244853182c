//! Opens the backends that the settings name.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use futures::join;

use super::partitions::PartitionsError;
use super::{Ports, partitions};
use crate::clock::Clock;
use crate::config::{BackendSettings, IndexUrl, LeaseUrl, LogUrl, StoreUrl};
use crate::durability::Weakness;
use crate::id::Ids;
use crate::index::{AnyIndex, EmbeddedIndex};
#[cfg(feature = "elasticsearch")]
use crate::index::{ElasticIndex, ElasticOptions};
use crate::lease::{AnyLeases, EmbeddedLeases};
use crate::log::{AnyLog, EmbeddedLog, LogOpenError};
use crate::partition::PartitionMap;
use crate::sqlite::{DataFolder, OpenError};
use crate::store::{AnyStore, EmbeddedStore};

/// The backends that the settings name, each of any kind.
pub type AnyBackends = Ports<AnyStore, AnyLog, AnyLeases, AnyIndex>;

/// Why backends cannot be opened; nothing in them was changed. The text includes the cause, which is therefore no
/// source: printing the chain would repeat it.
#[derive(Debug, thiserror::Error)]
pub enum OpenBackendsError {
    /// A file or the folder.
    #[error(transparent)]
    File(#[from] OpenError),
    /// The embedded log.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// Something has to be there, and is not.
    #[error("{} is missing, and was not created: start the bank, which makes it again from its store", .0.display())]
    Missing(PathBuf),
    /// The bank has another number of partitions.
    #[error(transparent)]
    Partitions(#[from] PartitionsError),
    /// MongoDB.
    #[cfg(feature = "mongodb")]
    #[error("event store: {0}")]
    Mongo(crate::store::MongoOpenError),
    /// NATS.
    #[cfg(feature = "nats")]
    #[error("partition log: {0}")]
    Nats(crate::log::NatsOpenError),
    /// Redis.
    #[cfg(feature = "redis")]
    #[error("leases: {0}")]
    Redis(crate::error::BackendError),
    /// Elasticsearch.
    #[cfg(feature = "elasticsearch")]
    #[error("index: {0}")]
    Elastic(crate::index::ElasticOpenError),
}

impl OpenBackendsError {
    /// Whether another process uses the data folder.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::File(OpenError::InUse { .. }))
    }

    /// Whether a setting does not fit the bank: its number of partitions is another one.
    #[must_use]
    pub const fn is_wrong_setting(&self) -> bool {
        #[cfg(feature = "nats")]
        let is_of_streams = matches!(self, Self::Nats(crate::log::NatsOpenError::Partitions { .. }));
        #[cfg(not(feature = "nats"))]
        let is_of_streams = false;
        let is_of_store = matches!(self, Self::Partitions(PartitionsError::Other { .. }));
        is_of_streams || is_of_store || matches!(self, Self::Log(LogOpenError::Partitions { .. }))
    }
}

impl AnyBackends {
    /// Opens the backends that the settings name. The data folder is created and locked only if one of them is
    /// embedded.
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
        // The store first: `EmbeddedStore::refuse_lost` takes a folder that has only other files for one that lost it.
        let store = open_store(settings, &folder).await?;
        partitions::check(&store, &settings.store_url, partitions).await?;
        let log = open_log(settings, &folder, partitions, clock, ids).await?;
        partitions::agree(&store, &settings.store_url, partitions).await?;
        let leases = open_leases(settings, &folder).await?;
        let index = open_index(settings, &folder).await?;
        let opened = Self { store, log, leases, index };
        for weakness in opened.weaknesses().await {
            weakness.warn();
        }
        Ok(opened)
    }

    /// Opens the backends of a bank that is there: a file that the data folder lacks is told, and none is created.
    ///
    /// # Errors
    /// As for [`AnyBackends::open`], and [`OpenBackendsError::Missing`].
    pub async fn open_existing(
        settings: &BackendSettings,
        partitions: PartitionMap,
        clock: &Clock,
        ids: &Ids,
    ) -> Result<Self, OpenBackendsError> {
        if settings.store_url == StoreUrl::Embedded {
            EmbeddedStore::refuse_lost(&settings.data)?;
        }
        match missing(settings) {
            Some(file) => Err(OpenBackendsError::Missing(file)),
            None => Self::open(settings, partitions, clock, ids).await,
        }
    }

    /// The settings of the servers that promise less than a bank should have.
    pub async fn weaknesses(&self) -> Vec<Weakness> {
        let Self { store, log, leases, index: _ } = self;
        let (store, log, leases) = join!(store.weaknesses(), log.weaknesses(), leases.weaknesses());
        [store, log, leases].concat()
    }
}

/// Opens the store, and none of the other backends. A number of partitions that is not the bank's is refused, but not
/// noted: it is agreed on when a log is made.
///
/// # Errors
/// As for [`AnyBackends::open`].
pub async fn open_store_alone(
    settings: &BackendSettings,
    partitions: PartitionMap,
) -> Result<AnyStore, OpenBackendsError> {
    let store = open_store(settings, &Folder::new(&settings.data)).await?;
    partitions::check(&store, &settings.store_url, partitions).await?;
    for weakness in store.weaknesses().await {
        weakness.warn();
    }
    Ok(store)
}

/// A file that the data folder should have, beside that of the store, and has not.
fn missing(settings: &BackendSettings) -> Option<PathBuf> {
    let BackendSettings { log_url, lease_url, index_url, data, .. } = settings;
    let files = [
        (*index_url == IndexUrl::Embedded).then(|| EmbeddedIndex::file_in(data)),
        (*lease_url == LeaseUrl::Embedded).then(|| EmbeddedLeases::file_in(data)),
        (*log_url == LogUrl::Embedded).then(|| EmbeddedLog::file_in(data)),
    ];
    files.into_iter().flatten().find(|file| !file.exists())
}

async fn open_store(settings: &BackendSettings, folder: &Folder<'_>) -> Result<AnyStore, OpenBackendsError> {
    Ok(match &settings.store_url {
        StoreUrl::Embedded => {
            let folder = folder.open()?;
            EmbeddedStore::refuse_lost(folder.path())?;
            AnyStore::Embedded(EmbeddedStore::open(&folder)?)
        }
        #[cfg(feature = "mongodb")]
        StoreUrl::Mongo(url) => {
            let database = settings.namespace.as_str();
            let store = crate::store::MongoStore::open(url.as_str(), database, settings.tls_ca.as_ref());
            AnyStore::Mongo(Box::pin(store).await.map_err(OpenBackendsError::Mongo)?)
        }
    })
}

async fn open_log(
    settings: &BackendSettings,
    folder: &Folder<'_>,
    partitions: PartitionMap,
    clock: &Clock,
    ids: &Ids,
) -> Result<AnyLog, OpenBackendsError> {
    Ok(match &settings.log_url {
        LogUrl::Embedded => {
            AnyLog::Embedded(EmbeddedLog::open(&folder.open()?, partitions, clock.clone(), ids.clone()).await?)
        }
        #[cfg(feature = "nats")]
        LogUrl::Nats(url) => {
            let options = crate::log::NatsOptions {
                url: url.as_str(),
                authorities: settings.tls_ca.as_ref(),
                credentials: settings.log_credentials.as_deref(),
                replicas: settings.log_replicas,
            };
            let log = crate::log::NatsLog::open(options, &settings.namespace, partitions, ids.clone());
            AnyLog::Nats(Box::pin(log).await.map_err(OpenBackendsError::Nats)?)
        }
    })
}

async fn open_leases(settings: &BackendSettings, folder: &Folder<'_>) -> Result<AnyLeases, OpenBackendsError> {
    Ok(match &settings.lease_url {
        LeaseUrl::Embedded => AnyLeases::Embedded(EmbeddedLeases::open(&folder.open()?)?),
        #[cfg(feature = "redis")]
        LeaseUrl::Redis(url) => {
            let leases = crate::lease::RedisLeases::open(url.as_str(), &settings.namespace, settings.tls_ca.as_ref());
            AnyLeases::Redis(Box::pin(leases).await.map_err(OpenBackendsError::Redis)?)
        }
    })
}

async fn open_index(settings: &BackendSettings, folder: &Folder<'_>) -> Result<AnyIndex, OpenBackendsError> {
    Ok(match &settings.index_url {
        IndexUrl::Embedded => AnyIndex::Embedded(EmbeddedIndex::open(&folder.open()?)?),
        #[cfg(feature = "elasticsearch")]
        IndexUrl::Elastic(url) => {
            let options = ElasticOptions { authorities: settings.tls_ca.clone(), ..ElasticOptions::default() };
            let index = ElasticIndex::new(url.as_str(), &settings.namespace, &options);
            let index = index.map_err(OpenBackendsError::Elastic)?;
            Box::pin(index.check()).await.map_err(OpenBackendsError::Elastic)?;
            AnyIndex::Elastic(index)
        }
    })
}

/// The data folder, created and locked when the first backend needs it.
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

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;
    use std::iter::successors;

    use super::*;
    use crate::error::BackendError;

    const CAUSE: &str = "the disk is on fire";

    /// Goal: only a folder that has lost its store is refused for that, whichever of the other files is there.
    #[test]
    fn a_folder_that_has_lost_its_store_is_told_from_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        EmbeddedStore::refuse_lost(folder.path()).unwrap();
        std::fs::write(folder.path().join("LOCK"), "1").unwrap();
        EmbeddedStore::refuse_lost(folder.path()).unwrap();
        for name in ["index.db", "leases.db", "log.db"] {
            let file = folder.path().join(name);
            std::fs::write(&file, "").unwrap();
            let refusal = EmbeddedStore::refuse_lost(folder.path()).unwrap_err();
            assert!(matches!(refusal, OpenError::StoreMissing { beside, .. } if beside == name), "{refusal}");
            for (kept, content) in [("store.db", ""), ("store.db-wal", "commits")] {
                let kept = folder.path().join(kept);
                std::fs::write(&kept, content).unwrap();
                EmbeddedStore::refuse_lost(folder.path()).unwrap();
                std::fs::remove_file(&kept).unwrap();
            }
            std::fs::remove_file(&file).unwrap();
        }
    }

    /// A failure with all its causes, as `bank` prints it.
    fn told(failure: &(dyn Error + 'static)) -> String {
        let chain = successors(Some(failure), |failure| (**failure).source());
        chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    #[test]
    fn a_cause_is_told_once_however_deep_it_lies() {
        let io = || io::Error::other(CAUSE);
        let backend = || BackendError::not_done("open", io());
        let failures = [
            OpenBackendsError::File(OpenError::Folder { path: "data".into(), reason: io() }),
            OpenBackendsError::Log(LogOpenError::Backend(backend())),
            OpenBackendsError::Partitions(PartitionsError::Backend(backend())),
            #[cfg(feature = "mongodb")]
            OpenBackendsError::Mongo(crate::store::MongoOpenError::Backend(backend())),
            #[cfg(feature = "nats")]
            OpenBackendsError::Nats(crate::log::NatsOpenError::Backend(backend())),
            #[cfg(feature = "redis")]
            OpenBackendsError::Redis(backend()),
        ];
        for failure in failures {
            let text = told(&failure);
            assert_eq!(text.matches(CAUSE).count(), 1, "{text}");
        }
    }
}
