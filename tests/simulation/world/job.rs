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
        self.is_unproved() || matches!(self.state.as_str(), "verifying" | "switching")
    }

    /// Whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.state == "failed"
    }

    /// The generation that it fills, and that it will verify before it answers queries. One that a rollback calls for
    /// is not filled: it has answered queries before.
    pub(crate) fn fills(&self) -> Option<Generation> {
        self.generation.filter(|_| self.purpose != "rollback" && self.is_unproved())
    }

    fn is_unproved(&self) -> bool {
        matches!(self.state.as_str(), "replaying" | "catching_up")
    }
}
