//! Switching the queries: one compare-and-set call.

use std::collections::{BTreeMap, BTreeSet};

use elasticsearch::CountParts;
use elasticsearch::indices::{IndicesDeleteParts, IndicesGetMappingParts};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use super::answer::{Failure, answer, done};
use super::generation::{add, remove};
use super::seal::Standing;
use super::{ElasticIndex, layout};
use crate::error::BackendError;
use crate::index::{Generation, PromoteError, Sealing};

#[derive(Deserialize)]
struct IndexMapping {
    mappings: Mapping,
}

#[derive(Deserialize)]
struct Mapping {
    #[serde(default)]
    properties: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Count {
    count: u64,
}

impl ElasticIndex {
    pub(super) async fn promote_generation(
        &self,
        generation: Generation,
        expected: Option<(Generation, Sealing)>,
    ) -> Result<(), PromoteError> {
        let backend = |failure: Failure| failure.backend("promote");
        let index = self.names.documents(generation);
        match self.refresh(&index).await {
            Err(failure) if failure.is_absence() => return Err(PromoteError::Gone(generation)),
            refreshed => refreshed.map_err(backend)?,
        }
        let mut actions = match expected {
            Some((old, sealing)) => self.away_from(old, sealing).await?,
            None if self.is_taken_by_hand().await.map_err(backend)? => {
                warn!(index = self.names.alias(), "replacing an index made by hand with the projection");
                vec![json!({ "remove_index": { "index": self.names.alias() } })]
            }
            None => vec![],
        };
        // A generation that is being discarded is no longer idle.
        actions.push(remove(&index, &self.names.idle(generation)));
        // An alias has at most one write index, so this is refused while another generation is active.
        let write_index = json!({ "index": index, "alias": self.names.alias(), "is_write_index": true });
        actions.push(json!({ "add": write_index }));
        match self.change_aliases(actions).await {
            Ok(()) => {
                self.remove_leftovers(generation).await;
                Ok(())
            }
            Err(failure @ Failure::Refused { .. }) => Err(self.why_not_promoted(generation, expected, failure).await?),
            Err(failure) => Err(backend(failure).into()),
        }
    }

    /// Actions that take the queries from a generation as this sealing left it, and are refused for any other.
    async fn away_from(&self, old: Generation, sealing: Sealing) -> Result<Vec<Value>, BackendError> {
        let (index, sealed) = (self.names.documents(old), self.names.sealed(old, sealing));
        match self.is_blocked(old).await {
            // An earlier seal was lifted late: a write delayed since before this seal may have come through.
            Ok(false) if self.standing(old).await.is_ok_and(|standing| standing == Standing::Sealed(sealing)) => {
                return Err(BackendError::not_done("promote", "the seal has lost its write block, seal again"));
            }
            Err(failure) if !failure.is_absence() => return Err(failure.backend("promote")),
            Ok(_) | Err(_) => {}
        }
        Ok(vec![
            // Removed and added again: there is no other way to compare aliases.
            remove(&index, &sealed),
            add(&index, &sealed),
            remove(&index, self.names.alias()),
            add(&index, &self.names.idle(old)),
        ])
    }

    async fn why_not_promoted(
        &self,
        generation: Generation,
        expected: Option<(Generation, Sealing)>,
        failure: Failure,
    ) -> Result<PromoteError, BackendError> {
        let found = self.all_generations().await.map_err(|failure| failure.backend("promote"))?;
        let is_expected = match expected {
            Some((old, sealing)) => found.active == Some(old) && found.sealed.contains(&(old, sealing.seal)),
            None => found.active.is_none(),
        };
        Ok(if !is_expected {
            PromoteError::Moved(found.active)
        } else if !found.all.contains(&generation) {
            PromoteError::Gone(generation)
        } else if self.is_sealed_again(expected).await.map_err(|failure| failure.backend("promote"))? {
            BackendError::not_done("promote", "another conductor sealed the generation meanwhile, seal again").into()
        } else {
            failure.backend("promote").into()
        })
    }

    async fn is_sealed_again(&self, expected: Option<(Generation, Sealing)>) -> Result<bool, Failure> {
        let Some((old, sealing)) = expected else { return Ok(false) };
        Ok(matches!(self.standing(old).await?, Standing::Sealed(found) if found != sealing))
    }

    /// Whether there is an index made by hand under the name that queries use, which may be replaced.
    ///
    /// # Errors
    /// [`Failure::InTheWay`] if it holds what this bank has not written, or if the name is an alias of something else.
    pub(super) async fn is_taken_by_hand(&self) -> Result<bool, Failure> {
        let alias = self.names.alias();
        let named = match self.aliases_of(alias).await {
            Ok(named) => named,
            Err(failure) if failure.is_absence() => return Ok(false),
            Err(failure) => return Err(failure),
        };
        if let Some(other) = named.keys().find(|index| *index != alias && self.names.generation(index).is_none()) {
            let what = format!("{alias} is an alias of {other}, which this bank did not create");
            return Err(Failure::InTheWay(format!("{what}: remove the alias, or set BANK_NAMESPACE")));
        }
        if !named.contains_key(alias) {
            return Ok(false);
        }
        let strange = self.strange_fields(alias).await?;
        let counted: Count = answer(self.client.count(CountParts::Index(&[alias])).send().await).await?;
        if counted.count > 0 && !strange.is_empty() {
            let fields = strange.into_iter().collect::<Vec<_>>().join(", ");
            let what = format!("the index {alias} holds documents that this bank did not write (fields {fields})");
            return Err(Failure::InTheWay(format!("{what}: rename or delete it, or set BANK_NAMESPACE")));
        }
        Ok(true)
    }

    /// Fields of an index that the bank's documents do not have.
    async fn strange_fields(&self, index: &str) -> Result<BTreeSet<String>, Failure> {
        let (api, indices) = (self.client.indices(), [index]);
        let asked = api.get_mapping(IndicesGetMappingParts::Index(&indices)).send().await;
        let mappings: BTreeMap<String, IndexMapping> = answer(asked).await?;
        let fields = mappings.into_values().flat_map(|mapping| mapping.mappings.properties.into_keys());
        Ok(fields.filter(|field| !layout::FIELDS.contains(&field.as_str())).collect())
    }

    /// Removes the remains of earlier generations whose documents were deleted by hand, or which were never completed.
    /// A lower number is never created later: a process that still creates one is refused by the job.
    async fn remove_leftovers(&self, promoted: Generation) {
        let found = match self.aliases_of(&self.names.pattern()).await {
            Ok(found) => found,
            Err(failure) => return debug!(%failure, "cannot look for leftover indices"),
        };
        let is_left = |index: &&String| {
            let left = self.names.generation_at_work(index);
            left.is_some_and(|left| left < promoted && !found.contains_key(&self.names.documents(left)))
        };
        for index in found.keys().filter(is_left) {
            let deleted = self.client.indices().delete(IndicesDeleteParts::Index(&[index])).send().await;
            match done(deleted).await {
                Ok(()) => info!(index, "removed a leftover index of a deleted generation"),
                Err(failure) => debug!(index, %failure, "cannot remove a leftover index"),
            }
        }
    }
}
