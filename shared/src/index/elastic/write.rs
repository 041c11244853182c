//! Writes to one generation: documents, parked accounts, checkpoints.

use serde::{Deserialize, Serialize};

use super::ElasticIndex;
use super::answer::Failure;
use super::bulk::{Fate, LINES_AT_ONCE, Lines, Over};
use super::read::checkpoint_id;
use super::seal::Standing;
use crate::clock::Timestamp;
use crate::coordinate::{Epoch, Version};
use crate::error::{BackendError, Effect};
use crate::id::{AccountId, EventId};
use crate::index::{AccountStatus, Applied, ApplyError, Balance, Checkpoint, Generation, Parked};
use crate::money::{Currency, Money};
use crate::owner::Owner;
use crate::partition::{Partition, Slot};

/// A document as it is stored: the fields of [`Balance`], and the slot it is listed by. The fields are repeated here,
/// borrowed, because serde would build a map for every document to flatten one struct into the other.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    slot: Slot,
    id: &'a AccountId,
    event_id: &'a EventId,
    owner: &'a Owner,
    status: &'a AccountStatus,
    currency: &'a Currency,
    balance: &'a Money,
    version: &'a Version,
    opened_at: &'a Timestamp,
    updated_at: &'a Timestamp,
}

impl<'a> From<&'a Balance> for Document<'a> {
    fn from(stored: &'a Balance) -> Self {
        let Balance { id, event_id, owner, status, currency, balance, version, opened_at, updated_at } = stored;
        Self { slot: Slot::of(id), id, event_id, owner, status, currency, balance, version, opened_at, updated_at }
    }
}

/// A parked account as it is stored: with the slot it is listed by.
#[derive(Serialize)]
struct ParkedDocument<'a> {
    slot: Slot,
    #[serde(flatten)]
    parked: &'a Parked,
}

/// A checkpoint as it is stored; the version of the document is its epoch.
#[derive(Serialize, Deserialize)]
pub(super) struct CheckpointDocument {
    pub(super) checkpoint: Checkpoint,
}

impl ElasticIndex {
    /// Writes documents over older ones.
    pub(super) async fn write_documents(
        &self,
        operation: &'static str,
        generation: Generation,
        balances: &[Balance],
        over: Over,
    ) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        let mut refused = None;
        for balances in balances.chunks(LINES_AT_ONCE) {
            let fates = match self.write_chunk(generation, balances, over).await {
                Ok(fates) => fates,
                Err(failure) => return Err(self.why_not_written(operation, generation, failure).await),
            };
            for (balance, fate) in fates {
                match fate {
                    Fate::Done => applied.written += 1,
                    Fate::Conflict => applied.stale += 1,
                    Fate::Unfit(reason) => refused = Some((balance.id, reason)),
                }
            }
        }
        match refused {
            Some((account, reason)) => Err(ApplyError::Refused { account, reason }),
            None => Ok(applied),
        }
    }

    /// Writes at most [`LINES_AT_ONCE`] documents, and then those of them again that only an edit has made stale.
    async fn write_chunk<'a>(
        &self,
        generation: Generation,
        balances: &'a [Balance],
        over: Over,
    ) -> Result<Vec<(&'a Balance, Fate)>, Failure> {
        let mut lines = Lines::for_documents(balances.len());
        for balance in balances {
            lines.index(balance.id, balance.version.get(), over, &Document::from(balance));
        }
        let fates = self.bulk(&self.bulks.documents, &self.names.open(generation), lines).await?;
        let (conflicts, mut settled): (Vec<_>, Vec<_>) =
            balances.iter().zip(fates).partition(|(_, fate)| *fate == Fate::Conflict);
        let conflicts: Vec<&Balance> = conflicts.into_iter().map(|(balance, _)| balance).collect();
        let fates = self.write_over_edited(generation, &conflicts, over).await?;
        settled.extend(conflicts.into_iter().zip(fates));
        Ok(settled)
    }

    /// Parks accounts, those that are parked already only if their entries do not count: their documents have passed
    /// them, or nobody can read them.
    ///
    /// Such an entry is deleted before the new one is created. If the writer dies in between, or was frozen and deletes
    /// what another one has just created, the account's next event or a comparison of heads parks it.
    pub(super) async fn park(&self, generation: Generation, parked: &[Parked]) -> Result<(), ApplyError> {
        let fates = self.create_entries(generation, parked).await?;
        let conflicts = parked.iter().zip(fates).filter(|(_, fate)| *fate == Fate::Conflict);
        let kept: Vec<&Parked> = conflicts.map(|(parked, _)| parked).collect();
        let accounts: Vec<AccountId> = kept.iter().map(|parked| parked.account).collect();
        let loaded = match self.load_accounts(generation, &accounts).await {
            Ok(loaded) => loaded,
            Err(failure) => return Err(self.why_not_written("apply", generation, failure).await),
        };
        let replaced = kept.into_iter().zip(loaded).filter(|(_, loaded)| loaded.parked_at().is_none());
        let again: Vec<Parked> = replaced.map(|(parked, _)| parked.clone()).collect();
        let accounts: Vec<AccountId> = again.iter().map(|parked| parked.account).collect();
        self.unpark_accounts(generation, &accounts).await?;
        self.create_entries(generation, &again).await.map(|_| ())
    }

    /// Creates the entries of accounts that have none; the others meet a conflict.
    async fn create_entries(&self, generation: Generation, parked: &[Parked]) -> Result<Vec<Fate>, ApplyError> {
        let mut parked = parked.iter();
        self.write_work("apply", generation, || {
            let mut lines = Lines::default();
            for parked in parked.by_ref().take(LINES_AT_ONCE) {
                lines.create(parked.account, &ParkedDocument { slot: Slot::of(&parked.account), parked });
            }
            lines
        })
        .await
    }

    pub(super) async fn unpark_accounts(
        &self,
        generation: Generation,
        accounts: &[AccountId],
    ) -> Result<(), ApplyError> {
        let mut accounts = accounts.iter();
        self.write_work("unpark", generation, || {
            let mut lines = Lines::default();
            accounts.by_ref().take(LINES_AT_ONCE).for_each(|account| lines.delete(account));
            lines
        })
        .await
        .map(|_| ())
    }

    /// Writes lines until there are no more, and returns their fates, in order; a conflict is no failure.
    async fn write_work(
        &self,
        operation: &'static str,
        generation: Generation,
        mut next: impl FnMut() -> Lines,
    ) -> Result<Vec<Fate>, ApplyError> {
        let alias = self.names.open_work(generation);
        let mut fates = Vec::new();
        loop {
            let lines = next();
            if lines.is_empty() {
                return Ok(fates);
            }
            let failure = match self.bulk(&self.bulks.work, &alias, lines).await {
                Ok(told) => {
                    let Some(kind) = told.iter().find_map(unfit) else {
                        fates.extend(told);
                        continue;
                    };
                    // An account whose parked entry is refused cannot be parked for that.
                    Failure::Refused { status: 400, kind, reason: "a parked account".to_owned() }
                }
                Err(failure) => failure,
            };
            return Err(self.why_not_written(operation, generation, failure).await);
        }
    }

    /// Writes a checkpoint, after everything it covers (law X1). Its epoch is the version of the document, so that
    /// Elasticsearch itself refuses a lower one (law X3).
    pub(super) async fn note(&self, generation: Generation, checkpoint: Checkpoint) -> Result<(), ApplyError> {
        let (epoch, partition) = (checkpoint.epoch, checkpoint.partition);
        let mut lines = Lines::default();
        lines.index(checkpoint_id(partition), epoch.get(), Over::OlderOrEqual, &CheckpointDocument { checkpoint });
        let alias = self.names.open_work(generation);
        let failure = match self.bulk(&self.bulks.work, &alias, lines).await.map(|mut fates| fates.pop()) {
            Ok(Some(Fate::Done)) => return Ok(()),
            Ok(Some(Fate::Conflict)) => return Err(self.why_not_noted(generation, partition, epoch).await),
            Ok(Some(Fate::Unfit(kind))) => Failure::Refused { status: 400, kind, reason: "a checkpoint".to_owned() },
            Ok(None) => Failure::Unreadable("no result for a checkpoint".to_owned()),
            Err(failure) => failure,
        };
        Err(self.why_not_written("apply", generation, failure).await)
    }

    /// Why a checkpoint of this epoch met a conflict: whether the stored one has a higher epoch.
    async fn why_not_noted(&self, generation: Generation, partition: Partition, epoch: Epoch) -> ApplyError {
        match self.stored_checkpoint(generation, partition).await.map(|stored| stored.map(|stored| stored.epoch)) {
            Ok(Some(current)) if current > epoch => ApplyError::Fenced { current },
            // The checkpoint in conflict has gone again, with the generation.
            Ok(Some(Epoch { .. }) | None) => BackendError::unknown("apply", "another checkpoint was in the way").into(),
            Err(failure) => failure.backend("apply").into(),
        }
    }

    /// Explains a missing alias or a block: the generation is gone or sealed, or something else is wrong.
    async fn why_not_written(&self, operation: &'static str, generation: Generation, failure: Failure) -> ApplyError {
        if !failure.is_write_block() && !failure.is_absence() {
            // Earlier lines may have been written. Writing them again is harmless.
            return BackendError { effect: Effect::Unknown, ..failure.backend(operation) }.into();
        }
        match self.standing(generation).await {
            Ok(Standing::Gone) => ApplyError::Gone(generation),
            Ok(Standing::Sealed(_)) => ApplyError::Sealed(generation),
            Ok(Standing::Shut) => {
                let (index, open) = (self.names.documents(generation), self.names.open(generation));
                let what = format!("{index} is neither sealed nor has the alias {open}: add it, or delete the index");
                BackendError::broken(operation, what).into()
            }
            // Between the two steps of a seal or its lifting, or blocked from outside.
            Ok(Standing::Open) if !failure.is_absence() => {
                let index = self.names.documents(generation);
                let remedy = format!("{failure}; if no operator blocked {index}, set its index.blocks.write to null");
                BackendError::unknown(operation, remedy).into()
            }
            // The hidden index beside the documents is gone.
            Ok(Standing::Open) => match self.restore_work(generation).await {
                Ok(()) => BackendError::unknown(operation, failure).into(),
                Err(failure) => failure.backend(operation).into(),
            },
            Err(failure) => failure.backend(operation).into(),
        }
    }
}

fn unfit(fate: &Fate) -> Option<String> {
    match fate {
        Fate::Unfit(kind) => Some(kind.clone()),
        Fate::Done | Fate::Conflict => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fake::{Asked, Fake};
    use super::super::tests::{GENERATION, all, documents};
    use super::*;
    use crate::index::{BalanceIndex, Projected};

    fn entry(account: AccountId, at: u64) -> Parked {
        Parked { account, at: Version::new(at), reason: "poison".to_owned(), since: Timestamp::EPOCH }
    }

    #[tokio::test]
    async fn a_user_who_may_not_write_is_not_taken_for_a_block() {
        let refusal = json!({ "error": { "type": "security_exception", "reason": "ann may not write" } }).to_string();
        let open = json!({ "balance-000001": { "aliases": { "balance-000001-open": {} } } }).to_string();
        let answers = move |asked: &Asked| {
            let is_look = asked.path.ends_with("/_alias");
            if is_look { (200, open.clone()) } else { (403, refusal.clone()) }
        };
        let fake = Fake::start(answers).await;
        let failure = fake.index().apply(GENERATION, &documents(1)).await.unwrap_err().to_string();
        assert!(failure.contains("ann may not write") && !failure.contains("index.blocks.write"), "{failure}");
    }

    #[tokio::test]
    async fn an_entry_that_its_document_has_passed_or_nobody_can_read_is_replaced_and_no_other() {
        // All documents are at version 3: the first has passed its entry, the second has not.
        let balances = documents(3).balances;
        let (passed, stopped, edited) = (balances[0].id, balances[1].id, balances[2].id);
        let entries = [json!(entry(passed, 3)), json!(entry(stopped, 4)), json!({ "account": edited })];
        let found = |source: Value| json!({ "found": true, "_source": source });
        let docs = balances.iter().zip(entries).flat_map(|(balance, entry)| [json!(balance), entry]);
        let shown = json!({ "docs": docs.map(found).collect::<Vec<_>>() }).to_string();
        let mut bulks = 0;
        let fake = Fake::start(move |asked| {
            if asked.is_look() {
                return (200, shown.clone());
            }
            bulks += 1;
            let status = if bulks == 1 { 409 } else { 200 };
            all(asked.ids().iter().map(|_| json!({ "status": status })))
        })
        .await;
        let parked = [passed, stopped, edited].map(|account| entry(account, 5)).into();
        fake.index().apply(GENERATION, &Projected { parked, ..Projected::default() }).await.unwrap();
        let sent: Vec<Vec<String>> = fake.bulks().iter().map(Asked::ids).collect();
        let [passed, stopped, edited] = [passed, stopped, edited].map(|account| account.to_string());
        let replaced = vec![passed.clone(), edited.clone()];
        assert_eq!(sent, [vec![passed, stopped, edited], replaced.clone(), replaced]);
        assert!(fake.bulks()[1].body.contains("delete") && fake.bulks()[2].body.contains("create"));
    }
}
