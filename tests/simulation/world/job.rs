//! The running or last rebuild, as the register of the store shows it to everybody.

use serde::Deserialize;
use shared::index::Generation;

use super::State;

/// The register that holds it.
const REGISTER: &str = "rebuild/balance";

/// What the simulation needs to know of a rebuild.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    purpose: String,
    state: String,
    generation: Option<Generation>,
}

impl Job {
    /// The running or last one; `None` before the first.
    pub(crate) fn of(state: &State) -> Option<Self> {
        let register = state.registers.get(REGISTER)?;
        Some(serde_json::from_slice(&register.value).expect("a job has a purpose and a state"))
    }

    /// Whether it still has something to do.
    pub(crate) fn is_running(&self) -> bool {
        self.is_unverified() || matches!(self.state.as_str(), "verifying" | "switching")
    }

    /// Whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.state == "failed"
    }

    /// The generation that it fills, and that it will verify before it answers queries. One that a rollback calls for
    /// is not filled: it has answered queries before.
    pub(crate) fn fills(&self) -> Option<Generation> {
        self.generation.filter(|_| self.purpose != "rollback" && self.is_unverified())
    }

    fn is_unverified(&self) -> bool {
        matches!(self.state.as_str(), "replaying" | "catching_up")
    }
}

/// Judges the job whenever it is written, and whenever a service has discarded a generation.
pub(super) fn judge(state: &mut State) {
    let running = Job::of(state).filter(Job::is_running);
    let gone = running.and_then(|job| job.generation).filter(|named| state.index.discarded.contains(named));
    if let Some(gone) = gone {
        state.audit.violate("B7 no running job names a discarded generation", || gone.to_string());
    }
}
