//! Which generations exist and which is active: read from aliases, changed by compare-and-set calls of `_aliases`.

use std::collections::BTreeMap;

use elasticsearch::IndexParts;
use elasticsearch::indices::{IndicesCreateParts, IndicesDeleteParts, IndicesGetAliasParts, IndicesRefreshParts};
use elasticsearch::params::{ExpandWildcards, VersionType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Acknowledgement, Failure, answer, done};
use super::{ElasticIndex, layout};
use crate::error::BackendError;
use crate::index::{ApplyError, Generation, Generations, Sealing};

/// How often a new number is requested: once, and again only after the counter was lost, which other processes may
/// notice and restore at the same time.
const NUMBER_TRIES: usize = 8;

/// The document whose version is the number of the newest generation.
const NEWEST: &str = "newest";

/// Indices with their aliases.
type Aliases = BTreeMap<String, IndexAliases>;

#[derive(Default, Deserialize)]
pub(super) struct IndexAliases {
    aliases: BTreeMap<String, Value>,
}

impl IndexAliases {
    pub(super) fn has(&self, alias: &str) -> bool {
        self.aliases.contains_key(alias)
    }
}

#[derive(Deserialize)]
struct Counted {
    #[serde(rename = "_version")]
    version: u64,
}

impl ElasticIndex {
    pub(super) async fn all_generations(&self) -> Result<Generations, Failure> {
        let mut found = Generations::default();
        for (index, aliases) in self.aliases_of(&self.names.pattern()).await? {
            let Some(generation) = self.names.generation(&index) else { continue };
            found.all.push(generation);
            if aliases.has(self.names.alias()) {
                found.active = Some(generation);
            }
            found.sealed.extend(self.sealing_among(generation, &aliases).map(|sealing| (generation, sealing.seal)));
        }
        // Numbers of more digits sort by value, not by name.
        found.all.sort_unstable();
        found.sealed.sort_unstable();
        Ok(found)
    }

    pub(super) async fn aliases_of(&self, indices: &str) -> Result<Aliases, Failure> {
        let (api, indices) = (self.client.indices(), [indices]);
        let asked = api.get_alias(IndicesGetAliasParts::Index(&indices));
        answer(asked.expand_wildcards(&[ExpandWildcards::All]).send().await).await
    }

    pub(super) fn sealing_among(&self, generation: Generation, found: &IndexAliases) -> Option<Sealing> {
        found.aliases.keys().find_map(|alias| self.names.sealing(generation, alias))
    }

    pub(super) async fn create_generation(&self) -> Result<Generation, BackendError> {
        let backend = |failure: Failure| failure.backend("create");
        // Reported now rather than when everything is built.
        self.is_taken_by_hand().await.map_err(backend)?;
        let generation = self.next_number().await?;
        // The documents first: a half-created generation is then known, and discarded like any other.
        let documents = layout::documents(&self.names.open(generation), &self.names.idle(generation));
        let created = self.create_index(&self.names.documents(generation), documents).await;
        created.map_err(backend)?;
        self.create_work(generation).await.map_err(backend)?;
        Ok(generation)
    }

    async fn create_work(&self, generation: Generation) -> Result<(), Failure> {
        self.create_index(&self.names.work(generation), layout::work(&self.names.open_work(generation))).await
    }

    /// Creates the index of checkpoints and parked accounts again if it, or only its alias, was deleted.
    pub(super) async fn restore_work(&self, generation: Generation) -> Result<(), Failure> {
        match self.create_work(generation).await {
            Err(failure) if failure.is_taken() => {
                let (work, open) = (self.names.work(generation), self.names.open_work(generation));
                self.change_aliases(vec![add(&work, &open)]).await
            }
            created => created,
        }
    }

    async fn create_index(&self, name: &str, layout: Value) -> Result<(), Failure> {
        done(self.client.indices().create(IndicesCreateParts::Index(name)).body(layout).send().await).await
    }

    /// Every write of a document raises its version by one, so the version serves as a counter.
    async fn next_number(&self) -> Result<Generation, BackendError> {
        let backend = |failure: Failure| failure.backend("create");
        match self.create_index(&self.names.state(), layout::state()).await {
            Err(failure) if !failure.is_taken() => return Err(backend(failure)),
            Ok(()) | Err(_) => {}
        }
        let mut restored = None;
        for _ in 0..NUMBER_TRIES {
            let number = match self.count(restored).await {
                Err(failure) if failure.is_conflict() => self.count(None).await,
                counted => counted,
            };
            let number = number.map_err(backend)?;
            let newest = self.all_generations().await.map_err(backend)?.all.last().copied();
            match newest {
                // Somebody deleted the counter.
                Some(newest) if newest >= number => restored = Some(u64::from(newest.0) + 1),
                Some(_) | None => return Ok(number),
            }
        }
        Err(BackendError::not_done("create", "other processes took every generation number"))
    }

    async fn count(&self, at: Option<u64>) -> Result<Generation, Failure> {
        let state = self.names.state();
        let mut counted = self.client.index(IndexParts::IndexId(&state, NEWEST)).filter_path(&["_version"]);
        if let Some(at) = at {
            counted = counted.version(at.cast_signed()).version_type(VersionType::External);
        }
        let counted: Counted = answer(counted.body(json!({})).send().await).await?;
        Ok(Generation(u32::try_from(counted.version).unwrap_or(u32::MAX)))
    }

    /// Makes everything that was written visible to searches.
    pub(super) async fn refresh(&self, index: &str) -> Result<(), Failure> {
        done(self.client.indices().refresh(IndicesRefreshParts::Index(&[index])).send().await).await
    }

    pub(super) async fn prepare_generation(&self, generation: Generation) -> Result<(), ApplyError> {
        match self.refresh(&self.names.documents(generation)).await {
            Err(failure) if failure.is_absence() => Err(ApplyError::Gone(generation)),
            refreshed => Ok(refreshed.map_err(|failure| failure.backend("prepare"))?),
        }
    }

    pub(super) async fn discard_generation(&self, generation: Generation) -> Result<(), Failure> {
        let (documents, work) = (self.names.documents(generation), self.names.work(generation));
        let (idle, discarded) = (self.names.idle(generation), self.names.discarded(generation));
        // From here on it cannot be promoted.
        match self.change_aliases(vec![remove(&documents, &idle), add(&documents, &discarded)]).await {
            Err(failure) if failure.is_absence() => {
                let found = self.aliases_of(&self.names.pattern()).await?;
                let standing = found.get(&documents);
                // It is active, or was when this call came.
                if standing.is_some_and(|found| found.has(self.names.alias()) || found.has(&idle)) {
                    return Ok(());
                }
            }
            changed => changed?,
        }
        let (api, both) = (self.client.indices(), [documents.as_str(), work.as_str()]);
        let deleted = api.delete(IndicesDeleteParts::Index(&both)).ignore_unavailable(true);
        acknowledged(&answer(deleted.send().await).await?)
    }

    /// Makes all of these changes or none, in one step.
    pub(super) async fn change_aliases(&self, actions: Vec<Value>) -> Result<(), Failure> {
        let changed = self.client.indices().update_aliases().body(json!({ "actions": actions })).send().await;
        acknowledged(&answer(changed).await?)
    }
}

pub(super) fn acknowledged(answer: &Acknowledgement) -> Result<(), Failure> {
    if answer.acknowledged && answer.shards_acknowledged { Ok(()) } else { Err(Failure::Unacknowledged) }
}

/// Removes an alias; if it is missing, the whole call is refused.
pub(super) fn remove(index: &str, alias: &str) -> Value {
    json!({ "remove": { "index": index, "alias": alias, "must_exist": true } })
}

pub(super) fn add(index: &str, alias: &str) -> Value {
    json!({ "add": { "index": index, "alias": alias, "is_hidden": true } })
}
