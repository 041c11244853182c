//! Customers and observers of a bank: the load of every test that kills something.
//!
//! Customers send commands, each under an idempotency key, and repeat a command at one account service after the other
//! until they know its fate. A test decides whether they hurry. Every acknowledged effect goes into a journal on the
//! test's side. Meanwhile observers read the projection, in which no account may ever go back. At the end the journal
//! holds the whole history of each account, version by version, and the verdict is whether store and projection agree
//! with it.

pub(crate) mod customer;
pub(crate) mod desks;
pub(crate) mod journal;
pub(crate) mod observer;
pub(crate) mod program;
pub(crate) mod rebuild;
pub(crate) mod session;
pub(crate) mod verdict;

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{sleep, timeout};

/// How long anything may take before a test fails instead of hanging; far beyond what a slow machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// How long a request may take before its fate counts as unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a request without an answer.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// For single requests. It keeps no connection, which would belong to the runtime of one test.
pub(crate) static ASK: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let asking = reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).pool_max_idle_per_host(0);
    asking.build().unwrap()
});

/// A client that keeps its connections.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build().unwrap()
}

/// Whether a status means only "not now".
pub(crate) fn is_away(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Reads something that must be there, from a service that may be away for a while.
pub(crate) async fn get(url: &str) -> Value {
    let answered = timeout(PATIENCE, async {
        loop {
            match ASK.get(url).timeout(PATIENCE).send().await {
                Ok(answer) if !is_away(answer.status()) => {
                    assert_eq!(answer.status(), StatusCode::OK, "{url}");
                    if let Ok(body) = answer.json().await {
                        return body;
                    }
                }
                Ok(_) | Err(_) => {}
            }
            sleep(AGAIN_AFTER).await;
        }
    });
    answered.await.unwrap_or_else(|_| panic!("{url} does not answer"))
}
