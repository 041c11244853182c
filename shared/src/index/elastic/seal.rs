//! Whether a generation takes writes: an alias says so, and a write block waits for earlier writes.

use elasticsearch::indices::{IndicesAddBlockParts, IndicesPutSettingsParts};
use serde_json::json;
use uuid::Uuid;

use super::ElasticIndex;
use super::answer::{Acknowledgement, Failure, answer};
use super::generation::{acknowledged, add, remove};
use crate::error::BackendError;
use crate::index::{ApplyError, Generation, Seal, Sealing};

/// The setting that an index has while its writes are blocked.
const WRITE_BLOCK: &str = "index.blocks.write";

/// Whether a generation takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Gone,
    Open,
    Sealed(Sealing),
    /// Neither open nor sealed: somebody has removed the alias that writes go through.
    Shut,
}

impl ElasticIndex {
    pub(super) async fn standing(&self, generation: Generation) -> Result<Standing, Failure> {
        let index = self.names.documents(generation);
        let aliases = match self.aliases_of(&index).await {
            Ok(mut found) => found.remove(&index).unwrap_or_default(),
            Err(failure) if failure.is_absence() => return Ok(Standing::Gone),
            Err(failure) => return Err(failure),
        };
        Ok(match self.sealing_among(generation, &aliases) {
            Some(sealing) => Standing::Sealed(sealing),
            None if aliases.has(&self.names.open(generation)) => Standing::Open,
            None => Standing::Shut,
        })
    }

    pub(super) async fn seal_generation(&self, generation: Generation, seal: Seal) -> Result<Sealing, ApplyError> {
        let backend = |failure: Failure| ApplyError::from(failure.backend("seal"));
        let index = self.names.documents(generation);
        let before = match self.standing(generation).await.map_err(backend)? {
            Standing::Gone => return Err(ApplyError::Gone(generation)),
            Standing::Sealed(other) if other.seal != seal => return Err(ApplyError::Sealed(generation)),
            Standing::Sealed(earlier) => self.names.sealed(generation, earlier),
            // If the alias of open generations is missing as well, the change is refused and says so.
            Standing::Open | Standing::Shut => self.names.open(generation),
        };
        // From here on, nobody promotes on top of an earlier sealing.
        let sealing = Sealing { seal, id: Uuid::now_v7() };
        let now = self.names.sealed(generation, sealing);
        match self.change_aliases(vec![remove(&index, &before), add(&index, &now)]).await {
            // Changed by somebody else meanwhile, as the check below finds, or gone.
            Err(failure) if failure.is_absence() => {}
            changed => changed.map_err(backend)?,
        }
        self.check_sealing(generation, sealing).await?;
        // For writes that found the alias before its removal: waits for those in flight, refuses those still to come.
        match self.block_writes(&index).await {
            Err(failure) if failure.is_absence() => return Err(ApplyError::Gone(generation)),
            blocked => blocked.map_err(backend)?,
        }
        self.check_sealing(generation, sealing).await?;
        Ok(sealing)
    }

    async fn check_sealing(&self, generation: Generation, sealing: Sealing) -> Result<(), ApplyError> {
        let backend = |failure: Failure| failure.backend("seal");
        match self.standing(generation).await.map_err(backend)? {
            Standing::Gone => Err(ApplyError::Gone(generation)),
            Standing::Sealed(found) if found == sealing => Ok(()),
            Standing::Sealed(found) if found.seal == sealing.seal => {
                Err(BackendError::not_done("seal", "another conductor sealed the generation as well").into())
            }
            Standing::Sealed(_) => Err(ApplyError::Sealed(generation)),
            // Unsealed meanwhile: the block would remain.
            Standing::Open | Standing::Shut => {
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
        // A block that is already set is not waited for, and the caller that set it may not have waited either.
        self.lift_block(index).await?;
        acknowledged(&self.block_once(index).await?)
    }

    async fn block_once(&self, index: &str) -> Result<Acknowledgement, Failure> {
        answer(self.client.indices().add_block(IndicesAddBlockParts::IndexBlock(&[index], "write")).send().await).await
    }

    async fn lift_block(&self, index: &str) -> Result<(), Failure> {
        let (api, indices) = (self.client.indices(), [index]);
        let lifted = api.put_settings(IndicesPutSettingsParts::Index(&indices));
        acknowledged(&answer(lifted.body(json!({ WRITE_BLOCK: null })).send().await).await?)
    }

    /// Whether the write block of a seal still stands.
    pub(super) async fn is_blocked(&self, generation: Generation) -> Result<bool, Failure> {
        let index = self.names.documents(generation);
        Ok(self.setting(&index, WRITE_BLOCK).await?.get(&index).is_some_and(|set| set == "true"))
    }

    pub(super) async fn unseal_generation(&self, generation: Generation, seal: Seal) -> Result<(), Failure> {
        let Standing::Sealed(sealing) = self.standing(generation).await? else { return Ok(()) };
        if sealing.seal != seal {
            return Ok(());
        }
        let (index, open) = (self.names.documents(generation), self.names.open(generation));
        // The block first: if this ends between the two, the generation is still sealed and can be unsealed again.
        let lifted = self.lift_block(&index).await;
        let opened = match lifted {
            Ok(()) => {
                let sealed = self.names.sealed(generation, sealing);
                self.change_aliases(vec![remove(&index, &sealed), add(&index, &open)]).await
            }
            Err(failure) => Err(failure),
        };
        match opened {
            Err(failure) if failure.is_absence() => Ok(()),
            opened => opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::super::fake::{Asked, Fake};
    use super::super::tests::GENERATION;
    use super::*;

    /// An index with one alias, and with a write block that was set before.
    struct Index {
        alias: String,
        is_blocked: bool,
        /// The alias at the moment when the block was lifted.
        lifted_under: Option<String>,
    }

    impl Index {
        fn answer(&mut self, asked: &Asked) -> Value {
            let done = json!({ "acknowledged": true });
            if asked.path == "/_aliases" {
                let changes: Value = serde_json::from_str(&asked.body).unwrap();
                assert_eq!(changes["actions"][0]["remove"]["alias"], self.alias.as_str());
                self.alias = changes["actions"][1]["add"]["alias"].as_str().unwrap().to_owned();
                done
            } else if asked.path.ends_with("/_block/write") {
                // One that is set already is not waited for.
                let has_waited = !std::mem::replace(&mut self.is_blocked, true);
                json!({ "acknowledged": true, "shards_acknowledged": has_waited })
            } else if asked.path.ends_with("/_settings") {
                self.is_blocked = false;
                self.lifted_under = Some(self.alias.clone());
                done
            } else {
                json!({ "balance-000001": { "aliases": { self.alias.as_str(): {} } } })
            }
        }
    }

    #[tokio::test]
    async fn a_block_is_lifted_only_when_nobody_can_promote_on_top_of_it() {
        let names = super::super::names::Names::of(&"bank".parse().unwrap());
        let frozen = Sealing { seal: Seal(Uuid::from_u128(7)), id: Uuid::from_u128(1) };
        let index = Index { alias: names.sealed(GENERATION, frozen), is_blocked: true, lifted_under: None };
        let index = Arc::new(Mutex::new(index));
        let server = Arc::clone(&index);
        let fake = Fake::start(move |asked| (200, server.lock().unwrap().answer(asked).to_string())).await;

        let sealing = fake.index().seal_generation(GENERATION, frozen.seal).await.unwrap();
        assert_ne!(sealing, frozen);
        let index = index.lock().unwrap();
        assert_eq!(index.lifted_under, Some(names.sealed(GENERATION, sealing)));
        assert!(index.is_blocked);
    }
}
