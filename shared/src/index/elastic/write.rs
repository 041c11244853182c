//! What is written to one generation: documents, parked accounts, checkpoints.

use std::collections::BTreeMap;

use elasticsearch::http::request::Body;
use elasticsearch::params::VersionType;
use elasticsearch::{BulkOperation, BulkParts, IndexParts};
use serde::{Deserialize, Serialize};

use super::ElasticIndex;
use super::answer::{Failure, answer, done};
use super::generation::Standing;
use crate::clock::Timestamp;
use crate::coordinate::{Epoch, Version};
use crate::error::BackendError;
use crate::id::AccountId;
use crate::index::{Applied, ApplyError, Balance, Checkpoint, Generation, Parked};
use crate::partition::Slot;

/// How many lines one bulk has. A document takes less than 2 KiB, so a body stays below 10 MiB, a tenth of what
/// Elasticsearch takes by default.
const LINES_AT_ONCE: usize = 5_000;

/// All that is looked at of a bulk's answer. Reasons stay behind, since they quote documents, and names with them.
const BULK_ANSWER: &[&str] = &["items.*.status", "items.*.error.type"];

/// A document as it is stored.
#[derive(Serialize)]
struct Document<'a> {
    slot: Slot,
    #[serde(flatten)]
    balance: &'a Balance,
}

/// A parked account as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct ParkedDocument {
    account: AccountId,
    slot: Slot,
    at: Version,
    reason: String,
    since: Timestamp,
}

impl From<Parked> for ParkedDocument {
    fn from(Parked { account, at, reason, since }: Parked) -> Self {
        Self { account, slot: Slot::of(&account), at, reason, since }
    }
}

impl From<ParkedDocument> for Parked {
    fn from(ParkedDocument { account, at, reason, since, .. }: ParkedDocument) -> Self {
        Self { account, at, reason, since }
    }
}

/// A checkpoint as it is stored; the version of the document is its epoch.
#[derive(Serialize, Deserialize)]
pub(super) struct CheckpointDocument {
    pub(super) checkpoint: Checkpoint,
}

#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<BTreeMap<String, Item>>,
}

/// What became of one line of a bulk.
#[derive(Deserialize)]
struct Item {
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(rename = "type")]
    kind: String,
}

impl From<Item> for Result<(), Failure> {
    fn from(Item { status, error }: Item) -> Self {
        match error {
            None => Ok(()),
            Some(ItemError { kind }) => Err(Failure::Refused { status, kind, reason: "a line of a bulk".to_owned() }),
        }
    }
}

impl ElasticIndex {
    /// Writes documents over older ones; `kind` says whether an equal version is older.
    pub(super) async fn write_documents(
        &self,
        operation: &'static str,
        generation: Generation,
        balances: &[Balance],
        kind: VersionType,
    ) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        let mut refused = None;
        for balances in balances.chunks(LINES_AT_ONCE) {
            let lines = balances.iter().map(|balance| {
                let document = Document { slot: Slot::of(&balance.id), balance };
                let version = balance.version.get().cast_signed();
                let line = BulkOperation::index(document).id(balance.id.to_string());
                BulkOperation::from(line.version(version).version_type(kind))
            });
            let items = self.bulk(operation, generation, &self.names.open(generation), lines.collect()).await?;
            for (balance, item) in balances.iter().zip(items) {
                match item {
                    Ok(()) => applied.written += 1,
                    Err(failure) if failure.is_conflict() => applied.stale += 1,
                    Err(Failure::Refused { status: 400, kind, .. }) => refused = Some((balance.id, kind)),
                    Err(failure) => return Err(self.why_not_written(operation, generation, failure).await),
                }
            }
        }
        match refused {
            Some((account, reason)) => Err(ApplyError::Refused { account, reason }),
            None => Ok(applied),
        }
    }

    /// Parks accounts that are not parked yet.
    pub(super) async fn park(&self, generation: Generation, parked: Vec<Parked>) -> Result<(), ApplyError> {
        let mut lines = Vec::with_capacity(parked.len());
        for parked in parked {
            let id = parked.account.to_string();
            lines.push(BulkOperation::from(BulkOperation::create(ParkedDocument::from(parked)).id(id)));
        }
        self.write_work("apply", generation, lines).await
    }

    pub(super) async fn unpark_accounts(
        &self,
        generation: Generation,
        accounts: &[AccountId],
    ) -> Result<(), ApplyError> {
        let lines = accounts.iter().map(|account| BulkOperation::<()>::delete(account.to_string()).into());
        self.write_work("unpark", generation, lines.collect()).await
    }

    /// Writes lines of which it does not matter whether something was in the way.
    async fn write_work<T: Serialize>(
        &self,
        operation: &'static str,
        generation: Generation,
        mut lines: Vec<BulkOperation<T>>,
    ) -> Result<(), ApplyError>
    where
        BulkOperation<T>: Body,
    {
        let index = self.names.open_work(generation);
        while !lines.is_empty() {
            let rest = lines.split_off(lines.len().min(LINES_AT_ONCE));
            for item in self.bulk(operation, generation, &index, std::mem::replace(&mut lines, rest)).await? {
                match item {
                    Err(failure) if !failure.is_conflict() => {
                        return Err(self.why_not_written(operation, generation, failure).await);
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Sends lines to an alias, and to nothing but an alias: what is gone is not made again (law X6).
    async fn bulk<T>(
        &self,
        operation: &'static str,
        generation: Generation,
        alias: &str,
        lines: Vec<T>,
    ) -> Result<Vec<Result<(), Failure>>, ApplyError>
    where
        T: Body,
    {
        let count = lines.len();
        let bulk = self.client.bulk(BulkParts::Index(alias)).require_alias(true).filter_path(BULK_ANSWER);
        let BulkAnswer { items } = match answer(bulk.body(lines).send().await).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.why_not_written(operation, generation, failure).await),
        };
        let items: Vec<_> = items.into_iter().flat_map(BTreeMap::into_values).map(Into::into).collect();
        if items.len() == count {
            Ok(items)
        } else {
            Err(BackendError::unknown(operation, "a bulk was answered in part").into())
        }
    }

    /// Says how far a worker has come, after all that stands for it (law X1). Its epoch is the version of the document,
    /// so that Elasticsearch itself refuses a lower one (law X3).
    pub(super) async fn note(&self, generation: Generation, checkpoint: Checkpoint) -> Result<(), ApplyError> {
        let (epoch, partition) = (checkpoint.epoch, checkpoint.partition);
        let (alias, id) = (self.names.open_work(generation), super::read::checkpoint_id(partition));
        let noted = self.client.index(IndexParts::IndexId(&alias, &id)).require_alias(true);
        let noted = noted.version(epoch.get().cast_signed()).version_type(VersionType::ExternalGte);
        let document = CheckpointDocument { checkpoint };
        match done(noted.filter_path(&["_version"]).body(document).send().await).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_conflict() => {
                let stored = self.stored_checkpoint(generation, partition).await;
                let current = stored.map_err(|failure| failure.backend("apply"))?;
                match current.map(|checkpoint| checkpoint.epoch) {
                    Some(current) if current > epoch => Err(ApplyError::Fenced { current }),
                    Some(Epoch { .. }) | None => Err(failure.backend("apply").into()),
                }
            }
            Err(failure) => Err(self.why_not_written("apply", generation, failure).await),
        }
    }

    /// An alias that is missing, or a block: whether the generation is gone, sealed, or something else is wrong.
    async fn why_not_written(&self, operation: &'static str, generation: Generation, failure: Failure) -> ApplyError {
        if !matches!(failure, Failure::Refused { status: 403 | 404, .. }) {
            // Lines before it may have been written. Writing them again is harmless.
            return BackendError { effect: crate::error::Effect::Unknown, ..failure.backend(operation) }.into();
        }
        match self.standing(generation).await {
            Ok(Standing::Gone) => ApplyError::Gone(generation),
            Ok(Standing::Sealed(_)) => ApplyError::Sealed(generation),
            // Between the two steps of a seal or its lifting, or blocked by an operator.
            Ok(Standing::Open) => BackendError::unknown(operation, failure).into(),
            Err(failure) => failure.backend(operation).into(),
        }
    }
}
