//! The projection as a user of Elasticsearch sees it: through the alias, bypassing every service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::customers::observer::Seen;
use crate::customers::verdict::assert_same;
use crate::customers::{AGAIN_AFTER, ASK, PATIENCE, client, get};

/// A pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// More than any scenario has accounts.
const SEARCHED_MAX: usize = 1_000;

/// A pause between two looks at the indices of the alias.
const LOOK_BEHIND_EVERY: Duration = Duration::from_millis(25);

/// Whether the index may be missing, because a scenario has deleted it. When it is back, everything seen before must be
/// there again.
#[derive(Clone, Default)]
pub(crate) struct Absence(Arc<AtomicBool>);

impl Absence {
    /// The index may be missing from now on.
    pub(crate) fn allow(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn explains(&self, status: StatusCode, answer: &Value) -> bool {
        let is_missing = answer["error"]["type"] == "index_not_found_exception" || answer["error"].is_string();
        status == StatusCode::NOT_FOUND && is_missing && self.0.load(Ordering::Relaxed)
    }
}

/// Reads the projection, bypassing the services.
#[derive(Clone)]
pub(crate) struct Onlooker {
    pub(crate) alias: String,
    pub(crate) accounts: Vec<String>,
    pub(crate) absence: Absence,
    pub(crate) stop: CancellationToken,
}

impl Onlooker {
    /// The answer of Elasticsearch; `None` while it is away or still starting, or while the index is missing and may
    /// be.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Option<Value> {
        let answer = request.send().await.ok()?;
        let status = answer.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let answer = answer.json().await.ok()?;
        (!self.absence.explains(status, &answer)).then_some(answer)
    }
}

/// Reads documents by id, one after the other. Returns the number of answers.
pub(crate) async fn watch_documents(onlooker: Onlooker) -> usize {
    let Onlooker { alias, accounts, stop, .. } = &onlooker;
    let http = client();
    let mut seen = Seen::default();
    for account in accounts.iter().cycle() {
        if stop.is_cancelled() {
            break;
        }
        if let Some(answer) = onlooker.ask(http.get(format!("{alias}/_doc/{account}"))).await {
            // The server answered, so a document that is not in the answer is missing.
            seen.note(account, answer["_source"]["version"].as_u64());
        }
        sleep(LOOK_EVERY).await;
    }
    seen.sightings()
}

/// Searches for all documents, again and again. A search may be behind, but it never goes back either. Returns the
/// number of documents seen.
pub(crate) async fn watch_searches(onlooker: Onlooker) -> usize {
    let Onlooker { alias, accounts, stop, .. } = &onlooker;
    let http = client();
    let mut seen = Seen::default();
    let url = format!("{alias}/_search?allow_partial_search_results=false");
    while !stop.is_cancelled() {
        let query = json!({ "size": SEARCHED_MAX, "query": { "match_all": {} } });
        if let Some(answer) = onlooker.ask(http.post(&url).json(&query)).await {
            let hits = answer["hits"]["hits"].as_array().map_or(&[][..], Vec::as_slice);
            for account in accounts {
                let hit = hits.iter().find(|hit| hit["_id"] == account.as_str());
                seen.note(account, hit.and_then(|hit| hit["_source"]["version"].as_u64()));
            }
        }
        sleep(LOOK_EVERY).await;
    }
    seen.sightings()
}

/// Checks which indices the alias names: always exactly one. Returns the number of looks.
pub(crate) async fn watch_turns(onlooker: Onlooker) -> usize {
    let (http, url) = (client(), behind_url(&onlooker.alias));
    let mut looks = 0;
    while !onlooker.stop.is_cancelled() {
        if let Some(answer) = onlooker.ask(http.get(&url)).await {
            assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1), "behind the alias: {answer}");
            looks += 1;
        }
        sleep(LOOK_BEHIND_EVERY).await;
    }
    looks
}

fn behind_url(alias: &str) -> String {
    let (server, name) = alias.rsplit_once('/').expect("an alias has a server");
    format!("{server}/_alias/{name}")
}

/// Whether the alias names an index at all.
pub(crate) async fn is_there(alias: &str) -> bool {
    ASK.head(behind_url(alias)).send().await.is_ok_and(|answer| answer.status().is_success())
}

/// The URL of the index behind the alias, which must be there.
pub(crate) async fn behind(alias: &str) -> String {
    let indices = get(&behind_url(alias)).await;
    let index = indices.as_object().and_then(|indices| indices.keys().next()).expect("an alias stands for an index");
    let (server, _) = alias.rsplit_once('/').expect("an alias has a server");
    format!("{server}/{index}")
}

/// The names of indices with their aliases.
pub(crate) type Indices = BTreeMap<String, Vec<String>>;

/// All indices of the bank.
pub(crate) async fn indices(alias: &str) -> Indices {
    let listed = get(&format!("{alias}*/_alias?expand_wildcards=all")).await;
    let listed = listed.as_object().into_iter().flatten();
    let names = |aliases: &Value| aliases.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    listed.map(|(index, listed)| (index.clone(), names(&listed["aliases"]))).collect()
}

/// Asserts that every document behind the alias agrees with the account service, and that there is no other one.
pub(crate) async fn check(alias: &str, accounts: &[String], account_service: &str) {
    for account in accounts {
        let document = get(&format!("{alias}/_doc/{account}")).await;
        assert_same(account, &document["_source"], &get(&format!("{account_service}/accounts/{account}")).await);
    }
    let refreshed = ASK.post(format!("{alias}/_refresh")).send().await.expect("Elasticsearch answers");
    assert!(refreshed.status().is_success(), "{}", refreshed.status());
    let count = get(&format!("{alias}/_count")).await;
    assert_eq!(count["count"], accounts.len(), "documents behind the alias");
}

/// Waits until no generation is left but the active one and the one before it, which is kept for a rollback.
pub(crate) async fn check_leftovers(alias: &str) {
    let listed = timeout(PATIENCE, async {
        loop {
            let indices = get(&format!("{alias}-*/_alias?expand_wildcards=all")).await;
            let names: Vec<String> = indices.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
            let (work, documents): (Vec<_>, Vec<_>) =
                names.iter().filter(|name| !name.ends_with("-state")).partition(|name| name.ends_with("-work"));
            if documents.len() <= 2 && work.len() == documents.len() {
                return;
            }
            sleep(AGAIN_AFTER).await;
        }
    });
    listed.await.unwrap_or_else(|_| panic!("generations are left behind {alias}"));
}

/// Removes the indices of a bank that is no longer needed.
pub(crate) async fn delete(alias: &str) {
    let (server, name) = alias.rsplit_once('/').expect("an alias has a server");
    let indices = get(&format!("{alias}-*/_alias?expand_wildcards=all")).await;
    for index in indices.as_object().into_iter().flatten().map(|(index, _)| index) {
        assert!(index.starts_with(name), "{index} is not of {name}");
        let deleted = ASK.delete(format!("{server}/{index}")).send().await.expect("Elasticsearch answers");
        assert!(deleted.status().is_success(), "{index}: {}", deleted.status());
    }
}
