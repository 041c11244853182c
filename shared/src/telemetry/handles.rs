use std::sync::{PoisonError, RwLock};

/// Handles of one metric, each kept under its labels after its first use.
///
/// The macros of `metrics` copy the labels and look them up in the recorder each time, which is too expensive for what
/// every request moves. Labels take few values that are known beforehand, so there are few handles and a linear search
/// finds one.
#[derive(Debug)]
pub struct Handles<Labels, Handle>(RwLock<Vec<(Labels, Handle)>>);

impl<Labels, Handle> Handles<Labels, Handle> {
    /// No handles yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(RwLock::new(Vec::new()))
    }

    /// Calls `work` with the handle whose labels match `these`, and registers it the first time.
    pub fn with(
        &self,
        these: impl Fn(&Labels) -> bool,
        register: impl FnOnce() -> (Labels, Handle),
        work: impl FnOnce(&Handle),
    ) {
        let place = |known: &[(Labels, Handle)]| known.iter().position(|(labels, _)| these(labels));
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = place(&known) {
            return work(&known[place].1);
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster.
        let place = place(&known).unwrap_or_else(|| {
            known.push(register());
            known.len() - 1
        });
        work(&known[place].1);
    }
}

impl<Labels, Handle> Default for Handles<Labels, Handle> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn a_handle_is_registered_once_for_its_labels() {
        let (handles, registered, moved) = (Handles::new(), Cell::new(0), RefCell::new(Vec::new()));
        for label in ["done", "replayed", "done", "replayed"] {
            let register = || {
                registered.set(registered.get() + 1);
                (label, label.to_uppercase())
            };
            handles.with(|known| *known == label, register, |handle| moved.borrow_mut().push(handle.clone()));
        }
        assert_eq!(*moved.borrow(), ["DONE", "REPLAYED", "DONE", "REPLAYED"]);
        assert_eq!(registered.get(), 2);
    }
}
