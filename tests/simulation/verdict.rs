//! What must hold once the last fault is healed: the view matches the store, and every answer was true.

use shared::coordinate::Version;
use shared::id::AccountId;
use shared::index::Balance;
use shared::log::floor::FLOORS;

use crate::journal::Journal;
use crate::world::fault::Faults;
use crate::world::generation::Contents;
use crate::world::job::Job;
use crate::world::{State, World};

/// Why the view is not yet the fold of the store; `None` when it is.
pub(crate) fn missing(state: &State) -> Option<String> {
    if Job::of(state).is_some_and(|job| job.is_running()) {
        return Some("a rebuild is still running".to_owned());
    }
    if let Some(floor) = state.registers.names().find(|name| is_floor_of_nobody(state, name)) {
        return Some(format!("M2 the floor {floor} holds the log for a generation that is gone"));
    }
    if let Some(request) = state.registers.names().find(|name| name.starts_with(REPAIRS)) {
        return Some(format!("P5 the request {request} is not carried out"));
    }
    let Some((_, view)) = state.index.active() else { return Some("no generation is active".to_owned()) };
    state.store.streams().find_map(|account| missing_account(state, view, account))
}

/// The prefix of the registers that hold requests for repairs.
const REPAIRS: &str = "repair/balance/";

fn is_floor_of_nobody(state: &State, register: &str) -> bool {
    let floor_of = |generation| register.starts_with(&format!("{FLOORS}{generation}/"));
    register.starts_with(FLOORS) && !state.index.all().any(floor_of)
}

fn missing_account(state: &State, view: &Contents, account: AccountId) -> Option<String> {
    let (document, poison) = state.audit.last(account);
    // A parked account is not folded, so its deleted document comes back only when it is retried or rebuilt.
    let waits = view.was_refused(account) && view.parked().contains_key(&account);
    let excused = waits || (poison.is_some() && view.was_deleted(account));
    let (have, want) = (view.documents().get(&account), document);
    let version = |document: &Balance| document.version;
    // Nothing puts a changed document right by itself.
    let same = if view.was_changed(account) { have.map(version) == want.map(version) } else { have == want };
    if !same && !excused {
        let (have, want) = (have.map(version), want.map(version));
        return Some(format!("AU8 {account} stands at {have:?}, the store at {want:?}"));
    }
    let parked = view.parked().get(&account).map(|parked| parked.at);
    (parked != poison && !waits)
        .then(|| format!("AU9 {account} is parked at {parked:?} and cannot be folded from {poison:?}"))
}

/// Judges a run that has come to rest, with or without faults.
///
/// # Errors
/// The broken law, and what broke it.
pub(crate) fn judge(world: &World, journal: &Journal, faults: &Faults) -> Result<(), String> {
    journal.check(world)?;
    world.with(|state| {
        if faults.are_none() && Job::of(state).is_some_and(|job| job.has_failed()) {
            return Err("a rebuild failed, and nothing went wrong".to_owned());
        }
        if let Some((outside, inside)) = state.audit.sums()
            && outside != inside
        {
            return Err(format!("AU4 {outside} came in and {inside} is there"));
        }
        let stray = state.index.active().and_then(|(_, view)| {
            view.documents().keys().find(|account| state.store.version(**account) == Version::EMPTY)
        });
        match stray {
            Some(account) => Err(format!("AU6 there is a document of {account}, which has no events")),
            None => Ok(()),
        }
    })
}
