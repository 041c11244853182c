//! A batch on its way into the simulated index, which has no transaction: it may be written in part.

use shared::index::{Applied, ApplyError, Generation, Projected};

use super::fault::Fault;
use super::generation::judge;
use super::{State, short};

/// How many batches in a thousand are exposed to a refusal at all: a parked account reveals little afterwards.
const REFUSED_OF_STRUCK: u64 = 500;

/// One batch on its way into a generation, a step at a time.
pub(super) struct Writing {
    process: usize,
    generation: Generation,
    projected: Projected,
    applied: Applied,
}

impl Writing {
    pub(super) fn new(process: usize, generation: Generation, projected: Projected) -> Self {
        Self { process, generation, projected, applied: Applied::default() }
    }

    /// What was written so far.
    pub(super) const fn applied(&self) -> Applied {
        self.applied
    }

    /// Half of the documents, the other half, the parked accounts, the checkpoint.
    pub(super) fn step(&mut self, state: &mut State, step: u32) -> Result<bool, ApplyError> {
        if step == 0 {
            self.applied = Applied::default();
            state.index.writable(self.generation)?.fence(&self.projected)?;
            self.refuse_one(state)?;
        }
        let half = self.projected.balances.len().div_ceil(2);
        match step {
            0 => self.documents(state, 0..half)?,
            1 => self.documents(state, half..self.projected.balances.len())?,
            2 => self.park(state)?,
            _ => self.move_checkpoint(state)?,
        }
        Ok(step >= 3 || (step == 1 && self.projected.parked.is_empty() && self.projected.checkpoint.is_none()))
    }

    /// May refuse one document, and with it the batch: permanently, as far as the writer knows.
    fn refuse_one(&self, state: &mut State) -> Result<(), ApplyError> {
        let balances = &self.projected.balances;
        if balances.is_empty() || !state.random.chance(REFUSED_OF_STRUCK) || !state.strikes(Fault::DocumentRefused) {
            return Ok(());
        }
        let account = balances[state.random.index(balances.len())].id;
        state.index.writable(self.generation)?.refused.insert(account);
        Err(ApplyError::Refused { account, reason: "the simulated index dislikes it".to_owned() })
    }

    fn documents(&mut self, state: &mut State, range: std::ops::Range<usize>) -> Result<(), ApplyError> {
        let is_active = state.index.active == Some(self.generation);
        for document in &self.projected.balances[range] {
            let contents = state.index.writable(self.generation)?;
            if contents.version(document.id).is_some_and(|have| document.version <= have) {
                self.applied.stale += 1;
                state.trace.count("apply: stale document");
                continue;
            }
            contents.documents.insert(document.id, document.clone());
            self.applied.written += 1;
            if !contents.changed.contains(&document.id) {
                state.audit.document(document);
            }
            if is_active {
                state.audit.visible(document.id, document.version);
            }
            state.note(self.process, "document written", short(document.id), document.version.get());
        }
        Ok(())
    }

    fn park(&mut self, state: &mut State) -> Result<(), ApplyError> {
        for parked in &self.projected.parked {
            let contents = state.index.writable(self.generation)?;
            let reached = contents.version(parked.account).unwrap_or_default();
            if contents.parked.get(&parked.account).is_none_or(|entry| entry.at <= reached) {
                contents.parked.insert(parked.account, parked.clone());
            }
            state.note(self.process, "account parked", short(parked.account), parked.at.get());
        }
        Ok(())
    }

    fn move_checkpoint(&mut self, state: &mut State) -> Result<(), ApplyError> {
        let Some(checkpoint) = &self.projected.checkpoint else { return Ok(()) };
        let contents = state.index.writable(self.generation)?;
        contents.fence(&self.projected)?;
        contents.checkpoints.insert(checkpoint.partition, checkpoint.clone());
        judge(state, self.generation, checkpoint);
        state.note(self.process, "checkpoint moved", u64::from(checkpoint.partition.get()), checkpoint.offset.get());
        Ok(())
    }
}
