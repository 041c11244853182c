//! Whether the bank did what it acknowledged: once, and in the projection too.

use serde_json::Value;

use super::desks::Desks;
use super::get;
use super::journal::{Acknowledged, Journal, check_history};

/// How many commands from the whole run are repeated at the end.
const REPEATS: usize = 150;

/// The fields that a balance and an account have in common.
const FIELDS: [&str; 7] = ["version", "balance", "owner", "status", "currency", "opened_at", "updated_at"];

/// A bank under judgement: where commands are taken and where balances are shown, each at one or several services.
pub(crate) struct Case<'a> {
    /// What was acknowledged.
    pub(crate) journal: &'a Journal,
    /// Every account there is.
    pub(crate) accounts: &'a [String],
    /// The account services.
    pub(crate) desks: &'a Desks,
    /// The balance services.
    pub(crate) views: &'a [String],
}

impl Case<'_> {
    /// Asserts that every account has exactly the acknowledged history, that all services agree on it, and that the
    /// money in all accounts is what came in.
    pub(crate) async fn check(&self) {
        let mut total = 0;
        for account in self.accounts {
            let last = check_history(account, &self.journal.history(account));
            let mut stored = Value::Null;
            for url in self.desks.urls(&format!("/accounts/{account}")) {
                stored = get(&url).await;
                let is_last = stored["version"] == last.version && stored["balance"] == last.balance;
                assert!(is_last, "{account} ends in {last:?}, and {url} says {stored}");
            }
            for view in self.views {
                let url = format!("{view}/balance/{account}?min_version={}&wait_ms=30000", last.version);
                assert_same(account, &get(&url).await, &stored);
            }
            total += last.balance;
        }
        assert_eq!(total, self.journal.money_from_outside(), "money is conserved");
    }

    /// Repeats earlier commands under their keys: each gets the answer it had before, and changes nothing.
    pub(crate) async fn check_repeats(&self) {
        let mut desks = self.desks.clone();
        let commands = self.journal.commands();
        let step = commands.len().div_ceil(REPEATS);
        for command in commands.into_iter().step_by(step) {
            let Acknowledged { path, key, body, answer } = command;
            let (status, again) = desks.decide(path, &key, &body).await;
            assert!(status.is_success(), "{key}: {status} {again}");
            assert_eq!(again, answer, "the answer to {key} has changed");
        }
        for account in self.accounts {
            let last = self.journal.history(account).len();
            for url in self.desks.urls(&format!("/accounts/{account}")) {
                let version = &get(&url).await["version"];
                assert_eq!(version, last, "a repeated command left something behind in {account}");
            }
        }
    }

    /// Asserts that no account waits for an operator.
    pub(crate) async fn check_parked(&self) {
        for view in self.views {
            assert_eq!(get(&format!("{view}/balance/parked")).await, Value::Array(Vec::new()), "parked accounts");
        }
    }
}

/// Asserts that a document agrees with the account service.
#[track_caller]
pub(crate) fn assert_same(account: &str, document: &Value, stored: &Value) {
    for field in FIELDS {
        assert_eq!(document[field], stored[field], "{field} of {account} in the projection");
    }
}

#[test]
fn a_wrong_document_is_found() {
    let stored = serde_json::json!({ "version": 3, "balance": 5, "owner": "o", "overdraft_limit": 0 });
    let is_same = |document: Value| std::panic::catch_unwind(|| assert_same("a", &document, &stored)).is_ok();
    assert!(is_same(serde_json::json!({ "version": 3, "balance": 5, "owner": "o" })));
    assert!(!is_same(serde_json::json!({ "version": 3, "balance": 6, "owner": "o" })));
    assert!(!is_same(serde_json::json!({ "version": 2, "balance": 5, "owner": "o" })));
}
