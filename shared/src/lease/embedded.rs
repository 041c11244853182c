//! Leases inside one process, for a bank without servers.
//!
//! Holders are kept in memory: the data folder belongs to one process (law Q6 of [`crate::sqlite`]), so when that ends,
//! so do all holders. Only the counter of each lease outlives it, in the file `leases.db`, fsynced before a grant is
//! answered (law E2).
//!
//! A grant first takes a number from the file and then the lease in memory, without holding a lock in between. So two
//! callers at once may both have a number; the first to take the lease has it. Nobody takes a lease with a number below
//! the last one granted, so a slow caller is refused rather than granted a lower epoch. A number that is not used is
//! only a gap.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::time::Instant;

use super::{Held, Holder, Lease, LeaseName, LeaseStore, RenewError};
use crate::coordinate::Epoch;
use crate::error::BackendError;
use crate::sqlite::{DataFolder, Database, Durability, FileSpec, OpenError};

const LEASES: FileSpec = FileSpec {
    file_name: "leases.db",
    // "BNK" and the number of the file.
    application_id: 0x424E_4B03,
    schema: &["CREATE TABLE epochs (lease TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID"],
    durability: Durability::Full,
};

/// The leases of an embedded bank. Clones share them.
#[derive(Clone, Debug)]
pub struct EmbeddedLeases {
    database: Database,
    // One entry for each name of a lease in the bank: a handful, and one for each partition.
    grants: Arc<Mutex<BTreeMap<LeaseName, Grant>>>,
}

/// The last grant of a lease.
#[derive(Debug)]
struct Grant {
    epoch: Epoch,
    /// `None` after a release.
    held: Option<(Holder, Instant)>,
}

impl Grant {
    fn holder(&self, now: Instant) -> Option<&Holder> {
        self.held.as_ref().filter(|(_, until)| now < *until).map(|(holder, _)| holder)
    }
}

impl EmbeddedLeases {
    /// Where the leases of a data folder are.
    pub(crate) fn file_in(folder: &Path) -> PathBuf {
        folder.join(LEASES.file_name)
    }

    /// Opens the leases of a data folder; none is held yet.
    ///
    /// # Errors
    /// [`OpenError`] for a file that is damaged, foreign or from a newer release; the file is left unchanged.
    pub fn open(folder: &DataFolder) -> Result<Self, OpenError> {
        Ok(Self { database: Database::open(folder, LEASES)?, grants: Arc::default() })
    }

    fn grants(&self) -> MutexGuard<'_, BTreeMap<LeaseName, Grant>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_held(&self, name: &LeaseName) -> bool {
        self.grants().get(name).is_some_and(|grant| grant.holder(Instant::now()).is_some())
    }
}

impl LeaseStore for EmbeddedLeases {
    async fn acquire(
        &self,
        name: &LeaseName,
        holder: &Holder,
        ttl: Duration,
        above: Epoch,
    ) -> Result<Option<Lease>, BackendError> {
        if self.is_held(name) {
            return Ok(None);
        }
        let counted = name.clone();
        let epoch = self.database.write("acquire", move |connection| next_epoch(connection, &counted, above)).await?;

        let mut grants = self.grants();
        let now = Instant::now();
        if grants.get(name).is_some_and(|last| last.holder(now).is_some() || last.epoch >= epoch) {
            return Ok(None);
        }
        grants.insert(name.clone(), Grant { epoch, held: Some((holder.clone(), now + ttl)) });
        Ok(Some(Lease::granted(name.clone(), holder.clone(), epoch)))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), RenewError> {
        let now = Instant::now();
        let mut grants = self.grants();
        let granted = grants.get_mut(lease.name()).filter(|grant| grant.epoch == lease.epoch());
        match granted.and_then(|grant| grant.held.as_mut()) {
            Some((_, until)) if now < *until => {
                *until = now + ttl;
                Ok(())
            }
            Some(_) | None => Err(RenewError::Lost),
        }
    }

    async fn release(&self, lease: Lease) -> Result<(), BackendError> {
        if let Some(grant) = self.grants().get_mut(lease.name()).filter(|grant| grant.epoch == lease.epoch()) {
            grant.held = None;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Held>, BackendError> {
        let now = Instant::now();
        let grants = self.grants();
        let matching = grants.iter().filter(|(name, _)| name.0.starts_with(prefix));
        let held = matching.filter_map(|(name, grant)| {
            grant.holder(now).map(|holder| Held { name: name.clone(), holder: holder.clone() })
        });
        Ok(held.collect())
    }
}

fn next_epoch(connection: &Connection, name: &LeaseName, above: Epoch) -> rusqlite::Result<Epoch> {
    let epoch = connection
        .prepare_cached(
            "INSERT INTO epochs (lease, epoch) VALUES (?1, ?2 + 1)
             ON CONFLICT (lease) DO UPDATE SET epoch = max(epoch, ?2) + 1 RETURNING epoch",
        )?
        .query_row(params![name.0, above.get()], |row| row.get(0))?;
    Ok(Epoch::new(epoch))
}
