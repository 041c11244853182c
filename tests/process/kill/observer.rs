//! Somebody who looks at the projection all the time, also while the process dies and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// How long to wait when nobody answers.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Asks for one account after the other. An account that was seen once stays, and its version never falls. Gives the
/// number of answers.
pub(crate) async fn watch(url: String, accounts: Vec<String>, stop: CancellationToken) -> usize {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut sightings = 0;
    for account in accounts.iter().cycle() {
        if stop.is_cancelled() {
            break;
        }
        let Some((status, shown)) = look(&http, &format!("{url}/{account}")).await else {
            tokio::time::sleep(AGAIN_AFTER).await;
            continue;
        };
        let before = seen.get(account.as_str()).copied();
        if status == StatusCode::NOT_FOUND {
            assert_eq!(before, None, "{account} has vanished from the projection");
            continue;
        }
        let version = shown["version"].as_u64().unwrap();
        assert!(before.is_none_or(|before| before <= version), "{account} went back from {before:?} to {version}");
        seen.insert(account, version);
        sightings += 1;
    }
    sightings
}

/// What the balance service says, unless it is away or not ready.
async fn look(http: &reqwest::Client, url: &str) -> Option<(StatusCode, Value)> {
    let answer = http.get(url).send().await.ok()?;
    let status = answer.status();
    if status.is_server_error() {
        return None;
    }
    assert!(status.is_success() || status == StatusCode::NOT_FOUND, "{url}: {status}");
    Some((status, answer.json().await.ok()?))
}
