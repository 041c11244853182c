//! The simulated balance index. Like Elasticsearch it has no transaction: a batch of documents may be written in part,
//! and its checkpoint not at all.

use std::time::Duration;

use shared::coordinate::Version;
use shared::error::BackendError;
use shared::id::{AccountId, CommitId};
use shared::index::{
    Applied, ApplyError, Balance, BalanceIndex, BalancePage, BalanceQuery, Checkpoint, Generation, Generations, Loaded,
    Parked, Projected, PromoteError, QueryError, Seal, Sealing,
};
use shared::money::Money;
use shared::partition::{Partition, Slot, SlotRange};
use tokio::time::sleep;

use super::fault::Fault;
use super::generation::{Contents, IndexState};
use super::job::{self, Job};
use super::process::Line;
use super::search::search;
use super::trace::CHAOS;
use super::writing::Writing;
use super::{State, World, short};

/// The index as one process sees it.
#[derive(Clone)]
pub(crate) struct WorldIndex(Line);

impl WorldIndex {
    pub(super) const fn new(line: Line) -> Self {
        Self(line)
    }
}

fn refusal(state: &mut State, error: &ApplyError) {
    state.trace.count(match error {
        ApplyError::Fenced { .. } => "apply: fenced",
        ApplyError::Sealed(_) => "apply: sealed",
        ApplyError::Gone(_) => "apply: gone",
        ApplyError::Refused { .. } => "apply: refused",
        ApplyError::Backend(_) => "apply: failed",
    });
}

impl World {
    /// From now on a write of nothing but a checkpoint takes this much longer.
    pub(crate) fn slow_checkpoints(&self, time: Duration) {
        self.with(|state| state.index.checkpoint_takes = time);
    }
}

fn by_seal((generation, sealing): (Generation, Option<Sealing>)) -> (Generation, Option<Seal>) {
    (generation, sealing.map(|sealing| sealing.seal))
}

impl BalanceIndex for WorldIndex {
    async fn generations(&self) -> Result<Generations, BackendError> {
        let list = |state: &mut State| Generations {
            active: state.index.active,
            all: state.index.generations.keys().copied().collect(),
            sealed: state.index.sealed().collect(),
        };
        self.0.ask("index.generations", list).await
    }

    async fn create(&self) -> Result<Generation, BackendError> {
        let process = self.0.process;
        let create = move |state: &mut State, _: u32| {
            state.index.last += 1;
            let generation = Generation(state.index.last);
            state.index.generations.insert(generation, Contents::default());
            state.note(process, "generation created", u64::from(generation.0), 0);
            state.freeze_maker(process);
            Some(generation)
        };
        self.0.change("index.create", create).await
    }

    async fn prepare(&self, generation: Generation) -> Result<(), ApplyError> {
        let prepare = move |state: &mut State, _: u32| {
            let exists = state.index.generations.contains_key(&generation);
            Some(if exists { Ok(()) } else { Err(ApplyError::Gone(generation)) })
        };
        self.0.change("index.prepare", prepare).await?
    }

    async fn promote(
        &self,
        generation: Generation,
        expected: Option<(Generation, Sealing)>,
    ) -> Result<(), PromoteError> {
        let process = self.0.process;
        let promote = move |state: &mut State, _: u32| {
            let found = state.index.active_under_seal();
            if found.map(by_seal) != expected.map(|(active, sealing)| (active, Some(sealing.seal))) {
                state.trace.count("promote: moved");
                return Some(Err(PromoteError::Moved(state.index.active)));
            }
            if found != expected.map(|(active, sealing)| (active, Some(sealing))) {
                state.trace.count("promote: sealed again");
                return Some(Err(BackendError::not_done("promote", "sealed again").into()));
            }
            let State { index, audit, .. } = state;
            let Some(contents) = index.generations.get_mut(&generation) else {
                return Some(Err(PromoteError::Gone(generation)));
            };
            audit.promoted(|account| contents.version(account));
            for document in contents.documents.values() {
                audit.visible(document.id, document.version);
            }
            // A rollback is not verified.
            if !contents.has_answered {
                contents.vouch(audit);
            }
            contents.has_answered = true;
            index.active = Some(generation);
            state.note(process, "generation promoted", u64::from(generation.0), 0);
            Some(Ok(()))
        };
        self.0.change("index.promote", promote).await?
    }

    async fn seal(&self, generation: Generation, seal: Seal) -> Result<Sealing, ApplyError> {
        let process = self.0.process;
        let close = move |state: &mut State, _: u32| {
            let IndexState { generations, sealings, .. } = &mut state.index;
            let Some(contents) = generations.get_mut(&generation) else {
                return Some(Err(ApplyError::Gone(generation)));
            };
            if contents.sealed.is_some_and(|sealed| sealed.seal != seal) {
                return Some(Err(ApplyError::Sealed(generation)));
            }
            *sealings += 1;
            let sealing = Sealing { seal, id: CommitId::from_bytes(sealings.to_be_bytes()).uuid() };
            contents.sealed = Some(sealing);
            state.note(process, "generation sealed", u64::from(generation.0), 0);
            Some(Ok(sealing))
        };
        self.0.change("index.seal", close).await?
    }

    async fn unseal(&self, generation: Generation, seal: Seal) -> Result<(), BackendError> {
        let process = self.0.process;
        let open = move |state: &mut State, _: u32| {
            let contents = state.index.generations.get_mut(&generation);
            if let Some(contents) =
                contents.filter(|contents| contents.sealed.is_some_and(|sealed| sealed.seal == seal))
            {
                contents.sealed = None;
                state.note(process, "generation unsealed", u64::from(generation.0), 0);
            }
            Some(())
        };
        self.0.change("index.unseal", open).await
    }

    async fn discard(&self, generation: Generation) -> Result<(), BackendError> {
        let process = self.0.process;
        let discard = move |state: &mut State, _: u32| {
            if state.index.active != Some(generation) && state.index.generations.remove(&generation).is_some() {
                state.note(process, "generation discarded", u64::from(generation.0), 0);
                state.index.discarded.insert(generation);
                job::judge(state);
            }
            Some(())
        };
        self.0.change("index.discard", discard).await
    }

    async fn apply(&self, generation: Generation, projected: &Projected) -> Result<Applied, ApplyError> {
        if projected.balances.is_empty() && projected.checkpoint.is_some() {
            sleep(self.0.world.with(|state| state.index.checkpoint_takes)).await;
        }
        let mut writing = Writing::new(self.0.process, generation, projected.clone());
        let apply = move |state: &mut State, step: u32| match writing.step(state, step) {
            Ok(false) => None,
            Ok(true) => Some(Ok(writing.applied())),
            Err(error) => {
                refusal(state, &error);
                Some(Err(error))
            }
        };
        self.0.change("index.apply", apply).await?
    }

    async fn repair(&self, generation: Generation, balances: Vec<Balance>) -> Result<(), ApplyError> {
        let process = self.0.process;
        let repair = move |state: &mut State, _: u32| {
            let contents = match state.index.writable(generation) {
                Ok(contents) => contents,
                Err(error) => return Some(Err(error)),
            };
            let newer = |document: &&Balance| contents.version(document.id).is_some_and(|have| document.version < have);
            let wanted: Vec<_> = balances.iter().filter(|document| !newer(document)).cloned().collect();
            contents.documents.extend(wanted.iter().map(|document| (document.id, document.clone())));
            for document in &wanted {
                state.audit.document(document);
                if state.index.active == Some(generation) {
                    state.audit.visible(document.id, document.version);
                }
                state.note(process, "document repaired", short(document.id), document.version.get());
            }
            Some(Ok(()))
        };
        self.0.change("index.repair", repair).await?
    }

    async fn unpark(&self, generation: Generation, accounts: &[AccountId]) -> Result<(), ApplyError> {
        let (process, accounts) = (self.0.process, accounts.to_vec());
        let unpark = move |state: &mut State, _: u32| {
            for account in &accounts {
                match state.index.writable(generation) {
                    Ok(contents) => contents.parked.remove(account),
                    Err(error) => return Some(Err(error)),
                };
                state.note(process, "account moves on", short(*account), 0);
            }
            Some(Ok(()))
        };
        self.0.change("index.unpark", unpark).await?
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        partition: Partition,
    ) -> Result<Option<Checkpoint>, BackendError> {
        let verb = "index.checkpoint";
        let find = |state: &mut State| {
            state.index.contents(generation, verb).map(|contents| contents.checkpoints.get(&partition).cloned())
        };
        self.0.ask(verb, find).await?
    }

    async fn load(&self, generation: Generation, accounts: &[AccountId]) -> Result<Vec<Loaded>, BackendError> {
        let load = |state: &mut State| {
            let contents = state.index.contents(generation, "index.load")?;
            let one = |account: &AccountId| Loaded {
                balance: contents.documents.get(account).cloned(),
                parked: contents.parked.get(account).cloned(),
            };
            Ok(accounts.iter().map(one).collect())
        };
        self.0.ask("index.load", load).await?
    }

    async fn versions(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        let list = |state: &mut State| {
            let contents = state.index.contents(generation, "index.versions")?;
            let place = |account: AccountId| (Slot::of(&account), account);
            let behind = after.map(place);
            let mut all: Vec<_> = contents
                .documents
                .values()
                .map(|document| (place(document.id), document.version))
                .filter(|(at, _)| slots.contains(at.0) && Some(*at) > behind)
                .collect();
            all.sort_unstable();
            Ok(all.into_iter().take(limit).map(|((_, account), version)| (account, version)).collect())
        };
        self.0.ask("index.versions", list).await?
    }

    async fn parked(
        &self,
        generation: Generation,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Parked>, BackendError> {
        let list = |state: &mut State| {
            let contents = state.index.contents(generation, "index.parked")?;
            let all = contents.parked.values();
            let mine = all.filter(|one| slots.contains(Slot::of(&one.account)) && Some(one.account) > after);
            Ok(mine.take(limit).cloned().collect())
        };
        self.0.ask("index.parked", list).await?
    }

    async fn get(&self, account: AccountId) -> Result<Option<Balance>, QueryError> {
        let get = |state: &mut State| Ok(state.index.answering()?.documents.get(&account).cloned());
        self.0.ask("index.get", get).await?
    }

    async fn search(&self, query: &BalanceQuery) -> Result<BalancePage, QueryError> {
        let find = |state: &mut State| search(&state.index.answering()?.documents, query);
        self.0.ask("index.search", find).await?
    }
}

impl World {
    /// Deletes one document of the active generation, as if by hand.
    pub(crate) fn delete_document(&self) {
        self.with(|state| {
            let State { store, index, audit, random, .. } = state;
            let Some(contents) = index.active.and_then(|active| index.generations.get_mut(&active)) else { return };
            let Some(account) = contents.any_account(random) else { return };
            contents.documents.remove(&account);
            contents.deleted.insert(account, store.version(account));
            audit.deleted(account);
            state.note(CHAOS, Fault::DocumentsDeleted.name(), short(account), 0);
        });
    }

    /// Changes one document of the active generation, as if by hand.
    pub(crate) fn change_document(&self) {
        self.with(|state| {
            let Some(active) = state.index.active else { return };
            state.change_document(active, Fault::DocumentChanged);
        });
    }

    /// Changes one document of a generation that is being filled, as if by hand.
    pub(crate) fn change_filling(&self) {
        self.with(|state| {
            let Some(filled) = Job::of(state).and_then(|job| job.fills()) else { return };
            state.change_document(filled, Fault::FillingChanged);
        });
    }

    /// Somebody has had every document that answers queries compared, and repaired where it was wrong.
    pub(crate) fn vouch_for_view(&self) {
        self.with(|state| {
            let State { index, audit, .. } = state;
            let Some(contents) = index.active.and_then(|active| index.generations.get_mut(&active)) else { return };
            contents.vouch(audit);
        });
    }

    /// Deletes the active generation, as if by hand.
    pub(crate) fn delete_generation(&self) {
        self.with(|state| {
            let Some(active) = state.index.active.take() else { return };
            state.index.generations.remove(&active);
            state.audit.deleted_all();
            state.note(CHAOS, Fault::GenerationDeleted.name(), u64::from(active.0), 0);
        });
    }
}

impl State {
    fn change_document(&mut self, generation: Generation, fault: Fault) {
        let Self { index, random, .. } = self;
        let Some(contents) = index.generations.get_mut(&generation) else { return };
        let chosen = contents.any_account(random);
        let Some(document) = chosen.and_then(|account| contents.documents.get_mut(&account)) else { return };
        document.balance = Money::new(document.balance.get() + 1).expect("it is far from the largest");
        let (account, version) = (document.id, document.version);
        contents.changed.insert(account);
        self.note(CHAOS, fault.name(), short(account), version.get());
    }
}
