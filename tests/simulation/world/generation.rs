//! What the simulated index holds, generation by generation, and the laws of its checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::coordinate::{Epoch, Offset, Version};
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{ApplyError, Balance, Checkpoint, Generation, Parked, Phase, Projected, QueryError, Seal, Sealing};
use shared::log::Incarnation;
use shared::partition::Partition;

use super::State;
use super::audit::Audit;
use super::random::Random;

/// All generations.
#[derive(Debug, Default)]
pub(crate) struct IndexState {
    pub(super) generations: BTreeMap<Generation, Contents>,
    pub(super) active: Option<Generation>,
    pub(super) last: u32,
    /// Those that services have discarded.
    pub(super) discarded: BTreeSet<Generation>,
    /// How often a generation was sealed.
    pub(super) sealings: u128,
    /// How much longer a write of nothing but a checkpoint takes than other calls.
    pub(super) checkpoint_takes: Duration,
}

/// What one generation holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(super) documents: BTreeMap<AccountId, Balance>,
    pub(super) parked: BTreeMap<AccountId, Parked>,
    pub(super) checkpoints: BTreeMap<Partition, Checkpoint>,
    pub(super) sealed: Option<Sealing>,
    /// Documents deleted by hand, with the versions the store had then: checkpoints are not answerable for these.
    pub(super) deleted: BTreeMap<AccountId, Version>,
    /// Documents changed by hand, and what was folded onto them: not judged until somebody vouches for them.
    pub(super) changed: BTreeSet<AccountId>,
    /// Whether it answers queries, or has done so.
    pub(super) has_answered: bool,
    /// Accounts with a refused document, which are parked although nothing is wrong with their events.
    pub(super) refused: BTreeSet<AccountId>,
    /// How far the records of a partition have been compared with the documents.
    judged: BTreeMap<Partition, (Incarnation, Offset)>,
    /// The highest epoch under which a partition's checkpoint was moved.
    epochs: BTreeMap<Partition, Epoch>,
}

impl Contents {
    /// The documents, in the order of their accounts.
    pub(crate) const fn documents(&self) -> &BTreeMap<AccountId, Balance> {
        &self.documents
    }

    /// The parked accounts.
    pub(crate) const fn parked(&self) -> &BTreeMap<AccountId, Parked> {
        &self.parked
    }

    /// Whether somebody deleted an account's document by hand.
    pub(crate) fn was_deleted(&self, account: AccountId) -> bool {
        self.deleted.contains_key(&account)
    }

    /// Whether somebody changed an account's document by hand.
    pub(crate) fn was_changed(&self, account: AccountId) -> bool {
        self.changed.contains(&account)
    }

    /// Whether the index refused a document of an account.
    pub(crate) fn was_refused(&self, account: AccountId) -> bool {
        self.refused.contains(&account)
    }

    /// From now on every document is judged: whoever verified them says that all are right.
    pub(super) fn vouch(&mut self, audit: &mut Audit) {
        self.documents.values().for_each(|document| audit.document(document));
        self.changed.clear();
    }

    /// An account that has a document, for a fault to strike.
    pub(super) fn any_account(&self, random: &mut Random) -> Option<AccountId> {
        let which = random.index(self.documents.len().max(1));
        self.documents.keys().nth(which).copied()
    }

    pub(super) fn version(&self, account: AccountId) -> Option<Version> {
        self.documents.get(&account).map(|document| document.version)
    }

    fn covers(&self, account: AccountId, version: Version) -> bool {
        self.version(account).is_some_and(|have| version <= have)
            || self.parked.get(&account).is_some_and(|parked| parked.at <= version)
            || self.deleted.get(&account).is_some_and(|deleted| version <= *deleted)
    }

    pub(super) fn fence(&self, projected: &Projected) -> Result<(), ApplyError> {
        let Some(checkpoint) = &projected.checkpoint else { return Ok(()) };
        match self.checkpoints.get(&checkpoint.partition) {
            Some(stored) if checkpoint.epoch < stored.epoch => Err(ApplyError::Fenced { current: stored.epoch }),
            Some(_) | None => Ok(()),
        }
    }
}

impl IndexState {
    /// The generation that answers queries.
    pub(crate) fn active(&self) -> Option<(Generation, &Contents)> {
        let active = self.active?;
        Some((active, self.generations.get(&active)?))
    }

    /// The generations that exist.
    pub(crate) fn all(&self) -> impl Iterator<Item = Generation> {
        self.generations.keys().copied()
    }

    /// The generation that answers queries, and its seal.
    pub(super) fn active_under_seal(&self) -> Option<(Generation, Option<Sealing>)> {
        self.active().map(|(active, contents)| (active, contents.sealed))
    }

    pub(super) fn sealed(&self) -> impl Iterator<Item = (Generation, Seal)> {
        self.generations.iter().filter_map(|(generation, contents)| Some((*generation, contents.sealed?.seal)))
    }

    pub(super) fn writable(&mut self, generation: Generation) -> Result<&mut Contents, ApplyError> {
        let contents = self.generations.get_mut(&generation).ok_or(ApplyError::Gone(generation))?;
        if contents.sealed.is_some() { Err(ApplyError::Sealed(generation)) } else { Ok(contents) }
    }

    pub(super) fn contents(&self, generation: Generation, verb: &'static str) -> Result<&Contents, BackendError> {
        let missing = || BackendError::not_done(verb, format!("generation {generation} does not exist"));
        self.generations.get(&generation).ok_or_else(missing)
    }

    pub(super) fn answering(&self) -> Result<&Contents, QueryError> {
        self.active().map(|(_, contents)| contents).ok_or(QueryError::NoGeneration)
    }
}

/// Judges a checkpoint that was moved. X1: everything a live one covers is in the generation. X3: its epoch never
/// falls.
pub(super) fn judge(state: &mut State, generation: Generation, checkpoint: &Checkpoint) {
    let Checkpoint { partition, epoch, incarnation, offset, phase } = checkpoint;
    let State { log, index, audit, .. } = state;
    let Some(contents) = index.generations.get_mut(&generation) else { return };
    let highest = contents.epochs.entry(*partition).or_insert(*epoch);
    if epoch < highest {
        audit.violate("X3 a lower epoch moves no checkpoint", || {
            format!("{partition} of {generation}: {epoch}, {highest}")
        });
    }
    *highest = (*highest).max(*epoch);
    if !matches!(phase, Phase::Live { .. }) {
        return;
    }
    let judged = contents.judged.get(partition).filter(|(life, _)| life == incarnation);
    let after = judged.map_or(Offset::START, |(_, offset)| *offset);
    for recorded in log.held(*partition, incarnation, after, *offset) {
        let (stream, version) = (recorded.stream, recorded.last_version());
        if !contents.covers(stream, version) {
            let have = contents.version(stream);
            audit.violate("X1 a checkpoint is never ahead", || {
                format!("{partition} {offset} of {generation} stands for {stream} {version}, the index has {have:?}")
            });
        }
    }
    contents.judged.insert(*partition, (incarnation.clone(), after.max(*offset)));
}
