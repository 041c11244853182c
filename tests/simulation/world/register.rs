//! Registers of the simulated store.

use std::collections::BTreeMap;

use bytes::Bytes;
use shared::coordinate::Revision;
use shared::error::BackendError;
use shared::store::{Register, Registers, WriteError};

use super::store::WorldStore;
use super::{checkpoint, job};

/// A register's revision stays when its value is removed (law R2).
#[derive(Debug, Default)]
pub(crate) struct RegisterState(BTreeMap<String, (Revision, Option<Bytes>)>);

impl RegisterState {
    /// The register of this name.
    pub(crate) fn get(&self, name: &str) -> Option<Register> {
        let (revision, value) = self.0.get(name)?;
        Some(Register { revision: *revision, value: value.clone()? })
    }

    /// The names of all registers that have a value.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, (_, value))| value.is_some()).map(|(name, _)| name.as_str())
    }

    fn set(&mut self, name: &str, expected: Revision, value: Option<Bytes>) -> Result<Revision, WriteError> {
        let actual = self.get(name).map_or(Revision::ABSENT, |register| register.revision);
        if actual != expected {
            return Err(WriteError::Moved { name: name.to_owned(), expected, actual });
        }
        let kept = self.0.entry(name.to_owned()).or_default();
        *kept = (kept.0.next(), value);
        Ok(kept.0)
    }
}

impl Registers for WorldStore {
    async fn read_register(&self, name: &str) -> Result<Option<Register>, BackendError> {
        self.line().ask("store.read_register", |state| state.registers.get(name)).await
    }

    async fn write_register(&self, name: &str, expected: Revision, value: Bytes) -> Result<Revision, WriteError> {
        let (name, process) = (name.to_owned(), self.line().process);
        let change = self.line().change("store.write_register", move |state, _| {
            let written = state.registers.set(&name, expected, Some(value.clone()));
            match &written {
                Ok(revision) => {
                    state.note(process, "register written", 0, revision.get());
                    checkpoint::judge(state, &name);
                    job::judge(state);
                }
                Err(_) => state.trace.count("register moved"),
            }
            Some(written)
        });
        change.await?
    }

    async fn remove_register(&self, name: &str, expected: Revision) -> Result<(), WriteError> {
        let (name, process) = (name.to_owned(), self.line().process);
        let change = self.line().change("store.remove_register", move |state, _| {
            let removed = state.registers.set(&name, expected, None);
            if removed.is_ok() {
                state.note(process, "register removed", 0, 0);
            }
            Some(removed.map(|_| ()))
        });
        change.await?
    }

    async fn list_registers(&self, prefix: &str) -> Result<Vec<(String, Register)>, BackendError> {
        let list = self.line().ask("store.list_registers", |state| {
            let names = state.registers.0.range(prefix.to_owned()..).map(|(name, _)| name);
            let names = names.take_while(|name| name.starts_with(prefix));
            names.filter_map(|name| Some((name.clone(), state.registers.get(name)?))).collect()
        });
        list.await
    }
}
