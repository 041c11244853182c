//! Whether a generation takes writes: an alias says so, and a write block waits for earlier writes.

use elasticsearch::indices::{IndicesAddBlockParts, IndicesPutSettingsParts};
use serde_json::json;

use super::ElasticIndex;
use super::answer::{Acknowledgement, Failure, answer};
use super::generation::{acknowledged, add, remove};
use crate::error::BackendError;
use crate::index::{ApplyError, Generation, Seal};

/// The setting that an index has while its writes are blocked.
const WRITE_BLOCK: &str = "index.blocks.write";

/// Whether a generation takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Gone,
    Open,
    Sealed(Seal),
    /// Neither open nor sealed: somebody has removed the alias that writes go through.
    Shut,
}

impl Standing {
    pub(super) fn is_under(self, seal: Seal) -> bool {
        self == Self::Sealed(seal)
    }
}

impl ElasticIndex {
    pub(super) async fn standing(&self, generation: Generation) -> Result<Standing, Failure> {
        let index = self.names.documents(generation);
        let aliases = match self.aliases_of(&index).await {
            Ok(mut found) => found.remove(&index).unwrap_or_default(),
            Err(failure) if failure.is_absence() => return Ok(Standing::Gone),
            Err(failure) => return Err(failure),
        };
        Ok(match self.seal_among(generation, &aliases) {
            Some(seal) => Standing::Sealed(seal),
            None if aliases.has(&self.names.open(generation)) => Standing::Open,
            None => Standing::Shut,
        })
    }

    pub(super) async fn seal_generation(&self, generation: Generation, seal: Seal) -> Result<(), ApplyError> {
        let backend = |failure: Failure| ApplyError::from(failure.backend("seal"));
        let (index, open) = (self.names.documents(generation), self.names.open(generation));
        let sealed = self.names.sealed(generation, seal);
        match self.change_aliases(vec![remove(&index, &open), add(&index, &sealed)]).await {
            // Already sealed, by whom is checked below, or gone.
            Err(failure) if failure.is_absence() => {}
            changed => changed.map_err(backend)?,
        }
        self.check_seal(generation, seal).await?;
        // For writes that found the alias before its removal: waits for those in flight, refuses those still to come.
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
        if self.standing(generation).await? != Standing::Sealed(seal) {
            return Ok(());
        }
        let (index, open) = (self.names.documents(generation), self.names.open(generation));
        // The block first: if this ends between the two, the generation is still sealed and can be unsealed again.
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
}
