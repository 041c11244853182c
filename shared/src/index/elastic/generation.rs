//! What exists, what answers, what is sealed: all of it told by aliases, and changed by comparing calls of `_aliases`.

use std::collections::BTreeMap;

use elasticsearch::IndexParts;
use elasticsearch::indices::{
    IndicesAddBlockParts, IndicesCreateParts, IndicesDeleteParts, IndicesGetAliasParts, IndicesPutSettingsParts,
    IndicesRefreshParts,
};
use elasticsearch::params::{ExpandWildcards, VersionType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Acknowledgement, Failure, answer, done};
use super::{ElasticIndex, layout};
use crate::error::BackendError;
use crate::index::{ApplyError, Generation, Generations, PromoteError, Seal};

/// How often a new number is asked for: again only when the counter was lost and another process restores it too.
const NUMBER_TRIES: usize = 8;

/// The document whose version is the number of the newest generation.
const NEWEST: &str = "newest";

/// Indices with their aliases.
type Aliases = BTreeMap<String, IndexAliases>;

#[derive(Deserialize)]
struct IndexAliases {
    aliases: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(rename = "_version")]
    version: u64,
}

/// Whether a generation takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Gone,
    Open,
    Sealed(Seal),
}

impl ElasticIndex {
    pub(super) async fn all_generations(&self) -> Result<Generations, Failure> {
        let mut found = Generations::default();
        for (index, IndexAliases { aliases }) in self.aliases_of(&self.names.pattern()).await? {
            let Some(generation) = self.names.generation(&index) else { continue };
            found.all.push(generation);
            if aliases.contains_key(self.names.alias()) {
                found.active = Some(generation);
            }
            found.sealed.extend(self.seal_among(generation, &aliases).map(|seal| (generation, seal)));
        }
        // Numbers of more digits sort by value, not by name.
        found.all.sort_unstable();
        found.sealed.sort_unstable();
        Ok(found)
    }

    async fn aliases_of(&self, indices: &str) -> Result<Aliases, Failure> {
        let (api, indices) = (self.client.indices(), [indices]);
        let asked = api.get_alias(IndicesGetAliasParts::Index(&indices));
        answer(asked.expand_wildcards(&[ExpandWildcards::All]).send().await).await
    }

    fn seal_among(&self, generation: Generation, aliases: &BTreeMap<String, Value>) -> Option<Seal> {
        aliases.keys().find_map(|alias| self.names.seal(generation, alias))
    }

    pub(super) async fn standing(&self, generation: Generation) -> Result<Standing, Failure> {
        let index = self.names.documents(generation);
        match self.aliases_of(&index).await {
            Ok(found) => Ok(found
                .get(&index)
                .and_then(|found| self.seal_among(generation, &found.aliases))
                .map_or(Standing::Open, Standing::Sealed)),
            Err(failure) if failure.is_absence() => Ok(Standing::Gone),
            Err(failure) => Err(failure),
        }
    }

    /// Whether somebody made a plain index under the name that queries use.
    pub(super) async fn is_alias_taken(&self) -> Result<bool, Failure> {
        match self.aliases_of(self.names.alias()).await {
            Ok(found) => Ok(found.contains_key(self.names.alias())),
            Err(failure) if failure.is_absence() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn create_generation(&self) -> Result<Generation, BackendError> {
        let generation = self.next_number().await?;
        let work = layout::work(&self.names.open_work(generation));
        self.create_index(&self.names.work(generation), work).await.map_err(|failure| failure.backend("create"))?;
        // The documents last: a generation exists when their index does.
        let documents = layout::documents(&self.names.open(generation));
        let created = self.create_index(&self.names.documents(generation), documents).await;
        created.map_err(|failure| failure.backend("create"))?;
        Ok(generation)
    }

    async fn create_index(&self, name: &str, layout: Value) -> Result<(), Failure> {
        done(self.client.indices().create(IndicesCreateParts::Index(name)).body(layout).send().await).await
    }

    /// Every write of a document raises its version by one, so the version hands out numbers.
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
        Err(BackendError::not_done("create", "other processes take every number"))
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

    pub(super) async fn promote_generation(
        &self,
        generation: Generation,
        expected: Option<(Generation, Seal)>,
    ) -> Result<(), PromoteError> {
        let backend = |failure: Failure| failure.backend("promote");
        let index = self.names.documents(generation);
        match self.refresh(&index).await {
            Err(failure) if failure.is_absence() => return Err(PromoteError::Gone(generation)),
            refreshed => refreshed.map_err(backend)?,
        }
        let mut actions = match expected {
            Some((old, seal)) => {
                let (old, seal) = (self.names.documents(old), self.names.sealed(old, seal));
                // Removed and added again: aliases can be compared in no other way.
                vec![remove(&old, &seal), add(&old, &seal), remove(&old, self.names.alias())]
            }
            None if self.is_alias_taken().await.map_err(backend)? => {
                vec![json!({ "remove_index": { "index": self.names.alias() } })]
            }
            None => vec![],
        };
        // An alias has one write index at most, so this is refused while another generation is active.
        let write_index = json!({ "index": index, "alias": self.names.alias(), "is_write_index": true });
        actions.push(json!({ "add": write_index }));
        match self.change_aliases(actions).await {
            Ok(()) => Ok(()),
            Err(failure @ Failure::Refused { .. }) => Err(self.why_not_promoted(generation, expected, failure).await?),
            Err(failure) => Err(backend(failure).into()),
        }
    }

    async fn why_not_promoted(
        &self,
        generation: Generation,
        expected: Option<(Generation, Seal)>,
        failure: Failure,
    ) -> Result<PromoteError, BackendError> {
        let found = self.all_generations().await.map_err(|failure| failure.backend("promote"))?;
        let is_expected = match expected {
            Some((old, seal)) => found.active == Some(old) && found.sealed.contains(&(old, seal)),
            None => found.active.is_none(),
        };
        Ok(if !is_expected {
            PromoteError::Moved(found.active)
        } else if !found.all.contains(&generation) {
            PromoteError::Gone(generation)
        } else {
            failure.backend("promote").into()
        })
    }

    pub(super) async fn seal_generation(&self, generation: Generation, seal: Seal) -> Result<(), ApplyError> {
        let backend = |failure: Failure| ApplyError::from(failure.backend("seal"));
        let (index, open) = (self.names.documents(generation), self.names.open(generation));
        let sealed = self.names.sealed(generation, seal);
        match self.change_aliases(vec![remove(&index, &open), add(&index, &sealed)]).await {
            // Sealed already, by whom is looked at below, or gone.
            Err(failure) if failure.is_absence() => {}
            changed => changed.map_err(backend)?,
        }
        self.check_seal(generation, seal).await?;
        // Writes that found the alias before it went away: waits for those under way, refuses those on their way.
        match self.block_writes(&index).await {
            Err(failure) if failure.is_absence() => return Err(ApplyError::Gone(generation)),
            blocked => blocked.map_err(backend)?,
        }
        self.check_seal(generation, seal).await
    }

    async fn check_seal(&self, generation: Generation, seal: Seal) -> Result<(), ApplyError> {
        let backend = |failure: Failure| failure.backend("seal");
        match self.standing(generation).await.map_err(backend)? {
            Standing::Gone => Err(ApplyError::Gone(generation)),
            Standing::Sealed(found) if found == seal => Ok(()),
            Standing::Sealed(_) => Err(ApplyError::Sealed(generation)),
            // Unsealed meanwhile: a block would stay behind.
            Standing::Open => {
                self.lift_block(&self.names.documents(generation)).await.map_err(backend)?;
                Err(BackendError::not_done("seal", "the seal was lifted while it was set").into())
            }
        }
    }

    async fn block_writes(&self, index: &str) -> Result<(), Failure> {
        let blocked = self.block_once(index).await?;
        if blocked.shards_acknowledged {
            return acknowledged(&blocked);
        }
        // A block that is there already is not waited for, and whoever set it may not have waited either.
        self.lift_block(index).await?;
        acknowledged(&self.block_once(index).await?)
    }

    async fn block_once(&self, index: &str) -> Result<Acknowledgement, Failure> {
        answer(self.client.indices().add_block(IndicesAddBlockParts::IndexBlock(&[index], "write")).send().await).await
    }

    async fn lift_block(&self, index: &str) -> Result<(), Failure> {
        let (api, indices) = (self.client.indices(), [index]);
        let lifted = api.put_settings(IndicesPutSettingsParts::Index(&indices));
        acknowledged(&answer(lifted.body(json!({ "index.blocks.write": null })).send().await).await?)
    }

    pub(super) async fn unseal_generation(&self, generation: Generation, seal: Seal) -> Result<(), Failure> {
        if self.standing(generation).await? != Standing::Sealed(seal) {
            return Ok(());
        }
        let (index, open) = (self.names.documents(generation), self.names.open(generation));
        // The block first: should this end between the two, the generation is still sealed and can be unsealed again.
        let lifted = self.lift_block(&index).await;
        let opened = match lifted {
            Ok(()) => {
                let sealed = self.names.sealed(generation, seal);
                self.change_aliases(vec![remove(&index, &sealed), add(&index, &open)]).await
            }
            Err(failure) => Err(failure),
        };
        match opened {
            Err(failure) if failure.is_absence() => Ok(()),
            opened => opened,
        }
    }

    pub(super) async fn discard_generation(&self, generation: Generation) -> Result<(), Failure> {
        if self.all_generations().await?.active == Some(generation) {
            return Ok(());
        }
        let (documents, work) = (self.names.documents(generation), self.names.work(generation));
        let (api, both) = (self.client.indices(), [documents.as_str(), work.as_str()]);
        let deleted = api.delete(IndicesDeleteParts::Index(&both)).ignore_unavailable(true);
        acknowledged(&answer(deleted.send().await).await?)
    }

    /// All of these or none, in one step.
    async fn change_aliases(&self, actions: Vec<Value>) -> Result<(), Failure> {
        let changed = self.client.indices().update_aliases().body(json!({ "actions": actions })).send().await;
        acknowledged(&answer(changed).await?)
    }
}

fn acknowledged(answer: &Acknowledgement) -> Result<(), Failure> {
    if answer.acknowledged && answer.shards_acknowledged { Ok(()) } else { Err(Failure::Unacknowledged) }
}

/// Takes an alias away if it is there, and refuses the whole call if it is not.
fn remove(index: &str, alias: &str) -> Value {
    json!({ "remove": { "index": index, "alias": alias, "must_exist": true } })
}

fn add(index: &str, alias: &str) -> Value {
    json!({ "add": { "index": index, "alias": alias, "is_hidden": true } })
}
