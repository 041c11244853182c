//! What the bank has acknowledged, kept where no kill reaches it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;

/// What one acknowledged command did to one account.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    /// The account's version, as acknowledged.
    pub(crate) version: u64,
    /// The account's balance after it, as acknowledged.
    pub(crate) balance: i64,
    /// What the command adds to the account.
    pub(crate) change: i64,
}

/// A command and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) path: &'static str,
    pub(crate) key: String,
    pub(crate) body: String,
    pub(crate) answer: String,
}

#[derive(Default)]
struct Entries {
    effects: BTreeMap<String, Vec<Effect>>,
    commands: Vec<Acknowledged>,
    from_outside: i64,
}

/// Every acknowledged command and its effects.
#[derive(Default)]
pub(crate) struct Journal {
    entries: Mutex<Entries>,
    count: watch::Sender<usize>,
}

impl Journal {
    /// Records a command; `from_outside` is the money it brings into the bank, below zero if it takes money out.
    pub(crate) fn acknowledge(&self, command: Acknowledged, effects: Vec<(String, Effect)>, from_outside: i64) {
        let mut entries = self.entries.lock().unwrap();
        entries.commands.push(command);
        entries.from_outside += from_outside;
        for (account, effect) in effects {
            entries.effects.entry(account).or_default().push(effect);
        }
        self.count.send_replace(entries.commands.len());
    }

    /// Waits until this many more commands are acknowledged.
    pub(crate) async fn wait_for_more(&self, more: usize) {
        let mut count = self.count.subscribe();
        let target = *count.borrow() + more;
        let reached = timeout(PATIENCE, count.wait_for(|count| *count >= target)).await;
        reached.expect("the bank acknowledges commands").expect("the journal lives");
    }

    /// The effects on an account, ordered by version.
    pub(crate) fn history(&self, account: &str) -> Vec<Effect> {
        let mut effects = self.entries.lock().unwrap().effects.get(account).cloned().unwrap_or_default();
        effects.sort_by_key(|effect| effect.version);
        effects
    }

    /// What all commands together brought into the bank.
    pub(crate) fn money_from_outside(&self) -> i64 {
        self.entries.lock().unwrap().from_outside
    }

    /// All commands in the order of their acknowledgements.
    pub(crate) fn commands(&self) -> Vec<Acknowledged> {
        self.entries.lock().unwrap().commands.clone()
    }
}

/// Asserts that a history has the versions 1, 2, 3, … without a gap or a duplicate, and that each balance is the one
/// before plus the change: so every acknowledged command took effect once, and nothing else did. Returns the last
/// entry.
#[track_caller]
pub(crate) fn check_history(account: &str, history: &[Effect]) -> Effect {
    let mut balance = 0;
    for (index, effect) in history.iter().enumerate() {
        assert_eq!(effect.version, index as u64 + 1, "a hole or a twin in the history of {account}");
        balance += effect.change;
        assert_eq!(effect.balance, balance, "the balance of {account} at version {}", effect.version);
    }
    history.last().cloned().expect("an account was opened")
}

#[test]
fn a_hole_a_twin_and_a_wrong_balance_are_found() {
    let effect = |version, balance, change| Effect { version, balance, change };
    let is_accepted = |history: &[Effect]| std::panic::catch_unwind(|| check_history("a", history)).is_ok();
    assert!(is_accepted(&[effect(1, 5, 5), effect(2, 3, -2)]));
    assert!(!is_accepted(&[effect(1, 5, 5), effect(3, 3, -2)]));
    assert!(!is_accepted(&[effect(1, 5, 5), effect(1, 5, 5)]));
    assert!(!is_accepted(&[effect(1, 5, 5), effect(2, 4, -2)]));
}
