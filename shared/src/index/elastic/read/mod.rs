//! Reads for workers, the verifier and queries. Reads by id are as of the last acknowledged write.

use std::fmt::Display;

use elasticsearch::{GetParts, MgetParts, SearchParts};
use metrics::counter;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tracing::warn;

use super::ElasticIndex;
use super::answer::{Failure, INDEX_MISSING, answer, found};
use super::write::CheckpointDocument;
use crate::coordinate::Version;
use crate::id::AccountId;
use crate::index::{Balance, Checkpoint, Generation, Loaded, Parked, QueryError};
use crate::partition::{Partition, Slot, SlotRange};
use crate::telemetry::metric::DOCUMENTS_UNREADABLE;

/// How many accounts are requested at once: each takes less than 2 KiB in the request and in the answer.
const ACCOUNTS_AT_ONCE: usize = 2_000;

/// How many hits a search may have; `index.max_result_window` allows no more.
const HITS_AT_ONCE: usize = 10_000;

/// The preference of every search. Requests with the same preference go to the same copy of a shard while the cluster
/// does not change; others go to any copy. Each copy refreshes by itself, and the primary shows a write to a read by id
/// before a replica has it, so from one answer to the next a reader would see versions go back. A read by id has its
/// account as preference, which spreads the accounts over the copies. Version 8 no longer lets one ask the primary.
const SAME_COPY: &str = "bank";

pub(super) fn checkpoint_id(partition: Partition) -> String {
    format!("checkpoint-{}", partition.get())
}

/// One document of an answer, or its absence.
#[derive(Deserialize)]
pub(super) struct Got<T> {
    #[serde(rename = "_index")]
    index: Option<String>,
    found: Option<bool>,
    #[serde(rename = "_source")]
    source: Option<T>,
    error: Option<GotError>,
}

#[derive(Deserialize)]
struct GotError {
    #[serde(rename = "type")]
    kind: String,
}

impl GotError {
    fn is_missing_index(&self) -> bool {
        self.kind == INDEX_MISSING
    }
}

impl<T> Got<T> {
    /// An index that does not exist holds no documents. An answer that does not say whether there is one is none.
    pub(super) fn found(self) -> Result<Option<T>, Failure> {
        match (self.error, self.found) {
            (Some(error), _) if !error.is_missing_index() => {
                Err(Failure::Refused { status: 503, kind: error.kind, reason: "a document was not read".to_owned() })
            }
            (None, None) => Err(Failure::Unreadable("neither a document nor its absence".to_owned())),
            (Some(_), _) | (None, Some(_)) => Ok(self.source),
        }
    }
}

/// Documents and parked accounts, alternating.
#[derive(Deserialize)]
struct GotMany {
    #[serde(default)]
    docs: Vec<Got<Box<RawValue>>>,
}

/// An answer to a search; an empty one omits its hits altogether.
#[derive(Deserialize)]
struct Found<H> {
    #[serde(default = "Hits::none")]
    hits: Hits<H>,
}

#[derive(Deserialize)]
struct Hits<H> {
    #[serde(default = "Vec::new")]
    hits: Vec<H>,
}

impl<H> Hits<H> {
    const fn none() -> Self {
        Self { hits: Vec::new() }
    }
}

/// The parts of an answer that make a [`Hit`].
pub(super) const HIT_PARTS: &[&str] = &["hits.hits._index", "hits.hits._id", "hits.hits._source", "hits.hits.sort"];

#[derive(Deserialize)]
pub(super) struct Hit {
    #[serde(rename = "_index")]
    pub(super) index: String,
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(rename = "_source")]
    pub(super) source: Box<RawValue>,
    /// What it was sorted by, if that was asked for.
    #[serde(default)]
    pub(super) sort: Vec<Value>,
}

/// The sort values of a document, which are its slot and id, and its version. Both are as the bank writes them, unless
/// somebody else wrote the document.
#[derive(Deserialize)]
struct VersionHit {
    sort: (Value, Value),
    #[serde(default)]
    fields: VersionFields,
}

/// The value of a field is a list.
#[derive(Default, Deserialize)]
struct VersionFields {
    #[serde(default)]
    version: Vec<Value>,
}

impl VersionHit {
    /// A document whose version cannot be read counts as empty, so that it is written again. One of no account is left
    /// out.
    fn read(&self) -> Option<(AccountId, Version)> {
        let account = AccountId::deserialize(&self.sort.1);
        if let Err(failure) = &account {
            counter!(DOCUMENTS_UNREADABLE.name).increment(1);
            warn!(id = %self.sort.1, %failure, "a document of the index is that of no account, it is ignored");
        }
        let version = match &*self.fields.version {
            [version] => version_in(version),
            _ => Version::EMPTY,
        };
        Some((account.ok()?, version))
    }
}

/// The version that a document shows; one that cannot be read is as low as none.
pub(super) fn version_in(shown: &Value) -> Version {
    shown.as_u64().map_or(Version::EMPTY, Version::new)
}

impl ElasticIndex {
    pub(super) async fn stored_checkpoint(
        &self,
        generation: Generation,
        partition: Partition,
    ) -> Result<Option<Checkpoint>, Failure> {
        let (index, id) = (self.names.work(generation), checkpoint_id(partition));
        let got: Got<CheckpointDocument> = found(self.client.get(GetParts::IndexId(&index, &id)).send().await).await?;
        Ok(got.found()?.map(|found| found.checkpoint))
    }

    pub(super) async fn load_accounts(
        &self,
        generation: Generation,
        accounts: &[AccountId],
    ) -> Result<Vec<Loaded>, Failure> {
        let (documents, work) = (self.names.documents(generation), self.names.work(generation));
        let mut loaded = Vec::with_capacity(accounts.len());
        for accounts in accounts.chunks(ACCOUNTS_AT_ONCE) {
            let questions = accounts.iter().flat_map(|id| [&documents, &work].map(|index| (index, id)));
            let docs: Vec<Value> = questions.map(|(index, id)| json!({ "_index": index, "_id": id })).collect();
            let parts = &["docs.found", "docs._source", "docs.error.type"];
            let asked = self.client.mget(MgetParts::None).filter_path(parts).body(json!({ "docs": docs }));
            let GotMany { docs } = answer(asked.send().await).await?;
            let mut got = docs.into_iter();
            for account in accounts {
                let balance = next_readable(&mut got, account)?;
                let parked = next_readable(&mut got, account)?;
                loaded.push(Loaded { balance, parked });
            }
        }
        Ok(loaded)
    }

    /// A refresh before the first page makes every acknowledged write part of the pages. They need no point-in-time
    /// search: an account never moves in their order, and documents are never deleted.
    pub(super) async fn list_versions(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, Failure> {
        let index = self.names.documents(generation);
        if after.is_none() {
            self.refresh(&index).await?;
        }
        let search = json!({
            "query": { "bool": { "filter": [of_slots(slots)] } },
            "sort": [{ "slot": "asc" }, { "id": "asc" }],
            // The stored documents are not read.
            "stored_fields": "_none_",
            "docvalue_fields": ["version"],
        });
        let behind = after.map(|after| json!([Slot::of(&after), after]));
        let parts = &["hits.hits.sort", "hits.hits.fields"];
        self.list(&index, parts, search, behind, limit, |hit: VersionHit| (hit.read(), json!(hit.sort))).await
    }

    pub(super) async fn list_parked(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Parked>, Failure> {
        let index = self.names.work(generation);
        match self.refresh(&index).await {
            // As in a read by id: an index that does not exist holds nothing. The next write creates it again.
            Err(failure) if failure.is_absence() => return Ok(Vec::new()),
            refreshed => refreshed?,
        }
        let search = json!({
            // Checkpoints have no slot, so the filter leaves them out.
            "query": { "bool": { "filter": [of_slots(slots)] } },
            "sort": [{ "account": "asc" }],
        });
        let behind = after.map(|after| json!([after]));
        let read = |hit: Hit| (readable(&hit.source, &hit.id), json!(hit.sort));
        self.list(&index, HIT_PARTS, search, behind, limit, read).await
    }

    /// What a search finds behind a place, in its order, at most `limit`. Of each hit, `read` gives what it shows, if
    /// that can be read, and its place. Only the last page is short, so the search goes on behind hits that cannot be
    /// read.
    async fn list<H: DeserializeOwned, T>(
        &self,
        index: &str,
        parts: &[&str],
        mut search: Value,
        mut behind: Option<Value>,
        limit: usize,
        read: impl Fn(H) -> (Option<T>, Value),
    ) -> Result<Vec<T>, Failure> {
        let mut listed = Vec::new();
        while listed.len() < limit {
            let size = (limit - listed.len()).min(HITS_AT_ONCE);
            search["size"] = json!(size);
            if let Some(behind) = behind.take() {
                search["search_after"] = behind;
            }
            let hits: Vec<H> = self.find(index, parts, search.clone()).await?;
            let is_last = hits.len() < size;
            for hit in hits {
                let (shown, place) = read(hit);
                listed.extend(shown);
                behind = Some(place);
            }
            if is_last {
                break;
            }
        }
        Ok(listed)
    }

    pub(super) async fn find<H: DeserializeOwned>(
        &self,
        index: &str,
        parts: &[&str],
        body: Value,
    ) -> Result<Vec<H>, Failure> {
        let (indices, parts) = ([index], [parts, &["error.type", "error.reason"]].concat());
        let asked = self.client.search(SearchParts::Index(&indices)).filter_path(&parts).track_total_hits(false);
        let asked = asked.allow_partial_search_results(false).preference(SAME_COPY).body(body);
        let found: Found<H> = answer(asked.send().await).await?;
        Ok(found.hits.hits)
    }

    pub(super) async fn get_balance(&self, account: AccountId) -> Result<Option<Balance>, QueryError> {
        let id = account.to_string();
        let asked = self.client.get(GetParts::IndexId(self.names.alias(), &id)).preference(&id);
        let got: Got<Box<RawValue>> = found(asked.send().await).await.map_err(|failure| failure.of_read("get"))?;
        let is_missing = got.error.as_ref().is_some_and(GotError::is_missing_index);
        if is_missing || got.index.as_ref().is_some_and(|index| self.names.generation(index).is_none()) {
            return Err(QueryError::NoGeneration);
        }
        let source = got.found().map_err(|failure| failure.of_read("get"))?;
        Ok(source.map(|source| read(&source)).transpose().map_err(|failure: Failure| failure.of_read("get"))?)
    }
}

fn next_readable<T: DeserializeOwned>(
    got: &mut impl Iterator<Item = Got<Box<RawValue>>>,
    account: &AccountId,
) -> Result<Option<T>, Failure> {
    let Some(next) = got.next() else { return Err(Failure::Unreadable("fewer documents than questions".to_owned())) };
    Ok(next.found()?.and_then(|source| readable(&source, account)))
}

/// A document or the entry of a parked account, unless a change from outside made it unreadable. Then it counts as
/// missing, and no other account waits for it: a worker folds the account again, from the first event or up to the one
/// that cannot be folded, and a comparison with the store reports it.
pub(super) fn readable<T: DeserializeOwned>(source: &RawValue, account: impl Display) -> Option<T> {
    let found = read(source);
    if let Err(failure) = &found {
        counter!(DOCUMENTS_UNREADABLE.name).increment(1);
        warn!(%account, %failure, "a document of the index cannot be read, it counts as missing");
    }
    found.ok()
}

fn read<T: DeserializeOwned>(source: &RawValue) -> Result<T, Failure> {
    serde_json::from_str(source.get()).map_err(|error| Failure::unreadable(&error))
}

fn of_slots(slots: SlotRange) -> Value {
    json!({ "range": { "slot": { "gte": slots.start, "lt": slots.end } } })
}

#[cfg(test)]
mod tests;
