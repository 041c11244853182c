//! Carrying out the repairs that checks request (law P5 of [`crate::verify`]).

use shared::backends::Backends;
use shared::coordinate::Revision;
use shared::index::ApplyError;
use tracing::{debug, info};

use super::Worker;
use super::project::Cache;
use crate::repair::{Request, requested, rewrite};

impl<B: Backends> Worker<B> {
    /// Carries out the request for a repair that waits, if there is one. `last` is the one carried out before, which
    /// the roster may still show. A failure is made up for after the next batch.
    pub(super) async fn carry_out_repair(&self, cache: &mut Cache, last: &mut Option<Revision>) {
        let waiting = self.roster.repair_request(self.partition);
        if waiting.is_none() || waiting == *last {
            return;
        }
        match self.repaired(cache).await {
            Ok(carried_out) => *last = carried_out,
            Err(failure) => debug!(partition = %self.partition, %failure, "repair not carried out, trying again"),
        }
    }

    async fn repaired(&self, cache: &mut Cache) -> Result<Option<Revision>, ApplyError> {
        let (store, partition) = (self.backends.store(), self.partition);
        let Some(requested) = requested(store, partition).await? else { return Ok(None) };
        let Request { generation, accounts } = &requested.request;
        if *generation == self.generation {
            // First, since a failure may leave some of the documents as they are.
            cache.forget_all();
            rewrite(&self.backends, self.generation, accounts).await?;
            info!(generation = %self.generation, %partition, rewritten = accounts.len(), "repair carried out");
        } else if self.roster.fed().contains(generation) {
            // It is for the worker of that generation.
            return Ok(None);
        }
        requested.done(store, partition).await?;
        Ok(Some(requested.revision))
    }
}
