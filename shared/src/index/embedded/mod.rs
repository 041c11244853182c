//! The index in one SQLite file of the data folder, `index.db`, for a bank that runs without servers.
//!
//! Each generation has its own table, so that discarding one only drops a table. Its rows are clustered by (slot,
//! account): a replay comes in that order and fills it from left to right, and the verifier reads it likewise.
//!
//! A write is one transaction: it checks the seal and the epoch, and writes documents, parked accounts and the
//! checkpoint (laws X1, X3, X5, X6). It is not fsynced ([`Durability::Normal`]), because the index can be filled again
//! from the store. Law X1 holds even after a power loss: that loses only whole transactions at the end, so a checkpoint
//! is lost together with the balances it covers. A generation created just before may be lost too, and its number used
//! again; every process that could have written to it died with the machine.
//!
//! Synced is what somebody is told is done, and nobody would do again: a repair; a retry of parked accounts, when they
//! are unparked; and a switch, by its promotion and again when the seal is lifted, since a switch that is repeated may
//! find the promotion made but not synced.
//!
//! Lists need more trees: by owner and, while clients ask for that order, by balance (`by_balance.rs`). They are built
//! in one sorted pass when a generation is prepared for promotion: for a million accounts that takes two seconds,
//! whereas maintaining them while a replay fills the table would write each of their pages again and again and take
//! more than a minute. Meanwhile queries continue on the old generation; writes wait.

mod by_balance;
mod generation;
mod read;
mod row;
mod search;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tracing::warn;

use self::by_balance::{Asked, KEPT, Pruner};
use super::cursor::{self, Place};
use super::{
    Applied, ApplyError, Balance, BalanceIndex, BalancePage, BalanceQuery, Checkpoint, Generation, Generations, Loaded,
    Parked, Projected, PromoteError, QueryError, Seal, Sealing,
};
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::AccountId;
use crate::partition::{Partition, Slot, SlotRange};
use crate::sqlite::{DataFolder, Database, Durability, FileSpec, OpenError};

const INDEX: FileSpec = FileSpec {
    file_name: "index.db",
    // "BNK" and the number of the file.
    application_id: 0x424E_4B04,
    schema: &[include_str!("schema_1.sql")],
    durability: Durability::Normal,
};

/// The index of an embedded bank. Clones share it; dropping the last one closes the file and waits for that.
#[derive(Clone, Debug)]
pub struct EmbeddedIndex {
    database: Database,
    by_balance: Asked,
}

impl EmbeddedIndex {
    /// Where the index of a data folder is.
    pub(crate) fn file_in(folder: &Path) -> PathBuf {
        folder.join(INDEX.file_name)
    }

    /// Opens the index of a data folder, or creates an empty one.
    ///
    /// # Errors
    /// [`OpenError`] for a file that is damaged, foreign or from a newer release; it was left as it is.
    pub fn open(folder: &DataFolder) -> Result<Self, OpenError> {
        Self::open_keeping(folder, KEPT)
    }

    fn open_keeping(folder: &DataFolder, kept: Duration) -> Result<Self, OpenError> {
        let by_balance = Asked::new(kept);
        let pruner = Pruner::new(by_balance.clone());
        Ok(Self { database: Database::open_kept_up(folder, INDEX, |_| Ok(pruner))?, by_balance })
    }

    /// Writes to a generation that is neither sealed nor gone.
    async fn write_to<T: Send + 'static>(
        &self,
        operation: &'static str,
        generation: Generation,
        mut run: impl FnMut(&Connection) -> rusqlite::Result<Result<T, ApplyError>> + Send + 'static,
    ) -> Result<T, ApplyError> {
        let checked = move |connection: &Connection| match generation::refusal(connection, generation)? {
            Some(refusal) => Ok(Err(refusal)),
            None => run(connection),
        };
        self.database.write(operation, checked).await?
    }

    /// Writes what survives a loss of power once this is answered, and so does all that was written before.
    async fn write_through<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BackendError> {
        let written = self.database.write(operation, run).await?;
        self.database.sync(operation).await?;
        Ok(written)
    }

    /// Reads the active generation.
    async fn read_active<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&Connection, Generation) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueryError> {
        let read = move |connection: &Connection| match generation::active(connection)? {
            Some(active) => run(connection, active).map(Some),
            None => Ok(None),
        };
        self.database.read(operation, read).await?.ok_or(QueryError::NoGeneration)
    }

    /// The page of a query that the tree by balance serves; `None` if there is no such tree.
    async fn page_by_balance(
        &self,
        query: &BalanceQuery,
        place: Option<&Place>,
    ) -> Result<Option<BalancePage>, QueryError> {
        let (query, place) = (query.clone(), place.cloned());
        let page = move |connection: &Connection, active| {
            if !by_balance::is_there(connection, active)? {
                return Ok(None);
            }
            search::page(connection, active, &query, place.as_ref()).map(Some)
        };
        self.read_active("search", page).await
    }
}

impl BalanceIndex for EmbeddedIndex {
    async fn generations(&self) -> Result<Generations, BackendError> {
        self.database.read("generations", generation::all).await
    }

    async fn create(&self) -> Result<Generation, BackendError> {
        self.database.write("create", generation::create).await
    }

    async fn promote(
        &self,
        generation: Generation,
        expected: Option<(Generation, Sealing)>,
    ) -> Result<(), PromoteError> {
        self.write_through("promote", move |connection| generation::promote(connection, generation, expected)).await?
    }

    async fn prepare(&self, generation: Generation) -> Result<(), ApplyError> {
        let asked = self.by_balance.clone();
        let prepare = move |connection: &Connection| generation::prepare(connection, generation, &asked);
        self.database.write("prepare", prepare).await?
    }

    async fn seal(&self, generation: Generation, seal: Seal) -> Result<Sealing, ApplyError> {
        self.database.write("seal", move |connection| generation::seal(connection, generation, seal)).await?
    }

    async fn unseal(&self, generation: Generation, seal: Seal) -> Result<(), BackendError> {
        self.write_through("unseal", move |connection| generation::unseal(connection, generation, seal)).await
    }

    async fn discard(&self, generation: Generation) -> Result<(), BackendError> {
        self.database.write("discard", move |connection| generation::discard(connection, generation)).await
    }

    async fn apply(&self, generation: Generation, projected: &Projected) -> Result<Applied, ApplyError> {
        let Projected { balances, parked, checkpoint } = projected.clone();
        let balances = placed(balances);
        let apply = move |connection: &Connection| {
            let Some(checkpoint) = &checkpoint else {
                return write::apply(connection, generation, &balances, &parked).map(Ok);
            };
            if let Some(current) = write::higher_epoch(connection, generation, checkpoint)? {
                return Ok(Err(ApplyError::Fenced { current }));
            }
            let applied = write::apply(connection, generation, &balances, &parked)?;
            write::checkpoint(connection, generation, checkpoint)?;
            Ok(Ok(applied))
        };
        self.write_to("apply", generation, apply).await
    }

    async fn repair(&self, generation: Generation, balances: Vec<Balance>) -> Result<(), ApplyError> {
        let balances = placed(balances);
        let repair = move |connection: &Connection| write::repair(connection, generation, &balances).map(Ok);
        self.write_to("repair", generation, repair).await?;
        Ok(self.database.sync("repair").await?)
    }

    async fn unpark(&self, generation: Generation, accounts: &[AccountId]) -> Result<(), ApplyError> {
        let accounts = accounts.to_vec();
        let unpark = move |connection: &Connection| write::unpark(connection, generation, &accounts).map(Ok);
        self.write_to("unpark", generation, unpark).await?;
        Ok(self.database.sync("unpark").await?)
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        partition: Partition,
    ) -> Result<Option<Checkpoint>, BackendError> {
        self.database.read("checkpoint", move |connection| read::checkpoint(connection, generation, partition)).await
    }

    async fn load(&self, generation: Generation, accounts: &[AccountId]) -> Result<Vec<Loaded>, BackendError> {
        let accounts = accounts.to_vec();
        self.database.read("load", move |connection| read::load(connection, generation, &accounts)).await
    }

    async fn versions(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        let versions = move |connection: &Connection| read::versions(connection, generation, slots, after, limit);
        self.database.read("versions", versions).await
    }

    async fn parked(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Parked>, BackendError> {
        let parked = move |connection: &Connection| read::parked(connection, generation, slots, after, limit);
        self.database.read("parked", parked).await
    }

    async fn get(&self, account: AccountId) -> Result<Option<Balance>, QueryError> {
        self.read_active("get", move |connection, active| read::document(connection, active, &account)).await
    }

    async fn search(&self, query: &BalanceQuery) -> Result<BalancePage, QueryError> {
        let place = query.cursor.as_ref().map(|cursor| cursor::read(cursor, query.sort)).transpose()?;
        if by_balance::would_serve(query) {
            self.by_balance.note();
            if let Some(page) = self.page_by_balance(query, place.as_ref()).await? {
                return Ok(page);
            }
            if let Err(failure) = self.database.write("list by balance", by_balance::build_active).await {
                warn!(%failure, "cannot build the index by balance, so lists by balance are slow with many accounts");
            }
        }
        let query = query.clone();
        let page = move |connection: &Connection, active| search::page(connection, active, &query, place.as_ref());
        self.read_active("search", page).await
    }
}

/// The documents with their slots, in the order of the table, so that neighbours are written one after the other.
fn placed(balances: Vec<Balance>) -> Vec<(Slot, Balance)> {
    let mut placed: Vec<_> = balances.into_iter().map(|balance| (Slot::of(&balance.id), balance)).collect();
    placed.sort_unstable_by_key(|(slot, balance)| (*slot, balance.id));
    placed
}

#[cfg(test)]
mod tests;
