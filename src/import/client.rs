//! An HTTP client of the account service: a request is repeated until an answer decides its outcome.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use serde_json::Value;
use shared::http::Reason;
use shared::id::AccountId;
use tokio::time::Instant;

/// How long one request may take before its outcome counts as unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request is repeated before the import gives up: a bank that restarts is back sooner. Until a first
/// connection has succeeded nothing is repeated: the address is wrong, or no bank is running.
const RETRY_FOR: Duration = Duration::from_mins(1);

/// The first delay before a request is repeated; it doubles up to [`DELAY_MAX`].
const DELAY_MIN: Duration = Duration::from_millis(50);

/// The longest delay before a request is repeated.
const DELAY_MAX: Duration = Duration::from_secs(2);

/// The code of a request whose idempotency key belongs to another one.
pub(crate) const KEY_USED: &str = Reason::IdempotencyKeyReused.code();

/// What the bank did with a request.
pub(crate) enum Outcome<T> {
    /// It took effect, now or in an earlier run.
    Done {
        /// The answer.
        body: T,
        /// Whether an earlier request with the same key had done it.
        is_repeat: bool,
    },
    /// It was refused and left nothing behind.
    Rejected(Rejection),
}

/// Why a request was refused.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Stable and machine readable, such as `insufficient_funds`.
    #[serde(default)]
    pub(crate) code: String,
    /// For people.
    #[serde(default)]
    pub(crate) detail: String,
}

impl Rejection {
    /// Whether the key had been used for another request. That request stays, so this one is never carried out.
    pub(crate) fn is_of_used_key(&self) -> bool {
        self.code == KEY_USED
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The very first connection is refused, or there is no such host.
    #[error("nothing answers at {url} ({reason}); is the bank running?")]
    Nobody {
        /// The URL of the account service, as given.
        url: String,
        /// Why there is no connection.
        reason: String,
    },
    /// The bank was unavailable or busy for too long.
    #[error("{url} gave no answer for {} s: {reason}; run the import again to resume it", RETRY_FOR.as_secs())]
    Away {
        /// The URL that was requested.
        url: String,
        /// The last failure.
        reason: String,
    },
    /// The answer is not one of this API.
    #[error("{url} gave an answer that is not the bank's: {reason}; check --url")]
    Strange {
        /// The URL that was requested.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An account as the account service shows it.
#[derive(Deserialize)]
pub(crate) struct Account {
    /// Minor units.
    pub(crate) balance: i64,
    /// How many events it has, the opening included.
    pub(crate) version: u64,
}

impl Account {
    /// One that was just opened, without money.
    pub(crate) const NEW: Self = Self { balance: 0, version: 1 };
}

/// Sends requests over persistent connections.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    /// Whether a connection has ever succeeded.
    is_reached: AtomicBool,
}

impl Client {
    /// A client of the account service at `base`, with a connection for each of `parallel` requests.
    pub(crate) fn new(base: String, parallel: usize) -> reqwest::Result<Self> {
        let http =
            reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).pool_max_idle_per_host(parallel).build()?;
        Ok(Self { http, base, is_reached: AtomicBool::new(false) })
    }

    /// Opens an account.
    pub(crate) async fn open(&self, key: &str, body: &Value) -> Result<Outcome<AccountId>, ClientError> {
        self.post("/accounts", key, body).await
    }

    /// Carries out a transaction.
    pub(crate) async fn transact(&self, key: &str, body: &Value) -> Result<Outcome<Value>, ClientError> {
        self.post("/transactions", key, body).await
    }

    /// Reads an account.
    pub(crate) async fn account(&self, id: AccountId) -> Result<Account, ClientError> {
        let url = format!("{}/accounts/{id}", self.base);
        match self.send(&url, || self.http.get(&url)).await? {
            Outcome::Done { body, .. } => Ok(body),
            Outcome::Rejected(rejection) => Err(ClientError::Strange { url, reason: rejection.detail }),
        }
    }

    async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<Outcome<T>, ClientError> {
        let url = format!("{}{path}", self.base);
        self.send(&url, || self.http.post(&url).header("idempotency-key", key).json(body)).await
    }

    async fn send<T: for<'de> Deserialize<'de>>(
        &self,
        url: &str,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<Outcome<T>, ClientError> {
        let give_up = Instant::now() + RETRY_FOR;
        let mut delay = DELAY_MIN;
        loop {
            let reason = match attempt(url, request()).await {
                Attempt::Decided(outcome) => {
                    self.is_reached.store(true, Ordering::Relaxed);
                    return outcome;
                }
                Attempt::Undecided(reason) => reason,
            };
            if reason.is_connected {
                self.is_reached.store(true, Ordering::Relaxed);
            } else if !self.is_reached.load(Ordering::Relaxed) {
                return Err(ClientError::Nobody { url: self.base.clone(), reason: reason.text });
            }
            if Instant::now() + delay > give_up {
                return Err(ClientError::Away { url: url.to_owned(), reason: reason.text });
            }
            tokio::time::sleep(delay.max(reason.asked_to_wait)).await;
            delay = (delay * 2).min(DELAY_MAX);
        }
    }
}

enum Attempt<T> {
    Decided(Result<Outcome<T>, ClientError>),
    Undecided(Undecided),
}

/// The outcome is unknown, or the bank asks for patience; the idempotency key makes a repeat harmless.
struct Undecided {
    text: String,
    asked_to_wait: Duration,
    /// Whether there was a connection to send the request on.
    is_connected: bool,
}

async fn attempt<T: for<'de> Deserialize<'de>>(url: &str, request: reqwest::RequestBuilder) -> Attempt<T> {
    let undecided =
        |text: String, asked_to_wait| Attempt::Undecided(Undecided { text, asked_to_wait, is_connected: true });
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => {
            let (text, is_connected) = (root_of(&error), !error.is_connect());
            return Attempt::Undecided(Undecided { text, asked_to_wait: Duration::ZERO, is_connected });
        }
    };
    let status = answer.status();
    // The bank answers 408 if the body did not arrive in time.
    let is_transient =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS);
    if status.is_server_error() || is_transient {
        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = asked.map_or(Duration::ZERO, Duration::from_secs).min(DELAY_MAX);
        return undecided(format!("status {status}"), asked);
    }
    let is_repeat = answer.headers().contains_key("idempotent-replayed");
    let bytes = match answer.bytes().await {
        Ok(bytes) => bytes,
        Err(error) => return undecided(root_of(&error), Duration::ZERO),
    };
    let outcome = if status.is_success() {
        serde_json::from_slice(&bytes).map(|body| Outcome::Done { body, is_repeat })
    } else {
        serde_json::from_slice(&bytes).map(Outcome::Rejected)
    };
    Attempt::Decided(
        outcome
            .map_err(|error| ClientError::Strange { url: url.to_owned(), reason: format!("status {status}, {error}") }),
    )
}

/// The innermost cause, which is the informative one.
fn root_of(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use axum::Router;
    use axum::routing::post;
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    /// A bank that gives these answers one after the other, and then repeats the last one.
    async fn scripted(answers: &'static [(u16, &'static str)]) -> Client {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = move || async move {
            let turn = asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            (StatusCode::from_u16(answers[turn].0).unwrap(), [("idempotent-replayed", "true")], answers[turn].1)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "the server lives as long as the test")]
        tokio::spawn(axum::serve(listener, Router::new().route("/transactions", post(answer))).into_future());
        Client::new(base, 1).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_repeated_until_its_fate_is_known() {
        let client = scripted(&[(503, "{}"), (500, "oops"), (408, "{}"), (409, "{}"), (201, "\"t\"")]).await;
        let outcome = client.transact("key", &json!({})).await.unwrap();
        assert!(matches!(outcome, Outcome::Done { is_repeat: true, .. }));
    }

    #[tokio::test]
    async fn a_refusal_is_an_outcome_and_not_repeated() {
        const PROBLEM: &str = r#"{"type":"x","code":"insufficient_funds","detail":"holds 3","status":422}"#;
        let client = scripted(&[(422, PROBLEM), (201, "\"t\"")]).await;
        match client.transact("key", &json!({})).await.unwrap() {
            Outcome::Rejected(rejection) => assert_eq!(rejection.code, "insufficient_funds"),
            Outcome::Done { .. } => panic!("the refusal was not the last word"),
        }
    }

    #[tokio::test]
    async fn an_answer_of_somebody_else_is_a_failure_that_says_so() {
        let client = scripted(&[(200, "<html>")]).await;
        let failure = client.transact("key", &json!({})).await.err().unwrap();
        assert!(failure.to_string().contains("not the bank's"), "{failure}");
    }

    /// An address where nothing listens: its listener is gone.
    async fn deserted() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    #[tokio::test]
    async fn an_address_that_refuses_the_first_connection_is_told_at_once() {
        let client = Client::new(deserted().await, 1).unwrap();
        let told = timeout(RETRY_FOR / 2, client.transact("key", &json!({}))).await.expect("told without patience");
        let failure = told.err().unwrap().to_string();
        assert!(failure.starts_with(&format!("nothing answers at {}", client.base)), "{failure}");
        assert!(failure.contains("refused") && failure.ends_with("is the bank running?"), "{failure}");
    }

    #[tokio::test]
    async fn a_bank_that_was_there_is_waited_for() {
        let mut client = scripted(&[(201, "\"t\"")]).await;
        client.transact("key", &json!({})).await.map(drop).unwrap();
        client.base = deserted().await;
        let asked = timeout(DELAY_MIN * 4, client.transact("key", &json!({}))).await;
        assert!(asked.is_err(), "it gave up");
    }
}
