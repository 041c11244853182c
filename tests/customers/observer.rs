//! Reads the projection all the time, even while a process dies and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{client, is_away};

/// The pause between two reads, so that watching leaves the machine to the bank.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What one reader has seen. An account that was seen once stays visible, and its version never falls.
#[derive(Default)]
pub(crate) struct Seen {
    versions: BTreeMap<String, u64>,
    sightings: usize,
}

impl Seen {
    /// Notes the version of an account; `None` if the account is not there.
    pub(crate) fn note(&mut self, account: &str, version: Option<u64>) {
        let before = self.versions.get(account).copied();
        assert!(before <= version, "{account} went back from version {before:?} to {version:?}");
        if let Some(version) = version {
            self.versions.insert(account.to_owned(), version);
            self.sightings += 1;
        }
    }

    /// How often something was seen.
    pub(crate) fn sightings(&self) -> usize {
        self.sightings
    }
}

/// Reads one account after the other, each time from the next of several balance services. Returns the number of
/// answers.
pub(crate) async fn watch(views: Vec<String>, accounts: Vec<String>, stop: CancellationToken) -> usize {
    let http = client();
    let mut seen = Seen::default();
    let mut view = views.iter().cycle();
    for account in accounts.iter().cycle() {
        if stop.is_cancelled() {
            break;
        }
        let view = view.next().expect("there is a balance service");
        if let Some(version) = look(&http, &format!("{view}/balance/{account}")).await {
            seen.note(account, version);
        }
        sleep(LOOK_EVERY).await;
    }
    seen.sightings()
}

/// The version a balance service shows, unless it is away or not ready.
async fn look(http: &reqwest::Client, url: &str) -> Option<Option<u64>> {
    let answer = http.get(url).send().await.ok()?;
    match answer.status() {
        StatusCode::NOT_FOUND => Some(None),
        status if is_away(status) => None,
        status => {
            assert_eq!(status, StatusCode::OK, "{url}");
            let shown: Value = answer.json().await.ok()?;
            Some(Some(shown["version"].as_u64().expect("a balance has a version")))
        }
    }
}

#[test]
fn an_account_that_goes_back_or_vanishes_is_noticed() {
    let is_accepted = |versions: &[Option<u64>]| {
        let mut seen = Seen::default();
        std::panic::catch_unwind(move || versions.iter().for_each(|version| seen.note("a", *version))).is_ok()
    };
    assert!(is_accepted(&[None, Some(1), Some(1), Some(3)]));
    assert!(!is_accepted(&[Some(3), Some(2)]));
    assert!(!is_accepted(&[Some(3), None]));
}
