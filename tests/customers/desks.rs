//! Where commands are taken: any account service of the bank.

use std::sync::Arc;

use reqwest::StatusCode;
use tokio::time::{Instant, sleep};

use super::{AGAIN_AFTER, PATIENCE, client, is_away};

/// The account services as one customer knows them, who goes to the next one when one does not serve.
#[derive(Clone)]
pub(crate) struct Desks {
    http: reqwest::Client,
    bases: Arc<[String]>,
    at: usize,
}

impl Desks {
    /// The services at these addresses, such as `http://127.0.0.1:8000`.
    pub(crate) fn new(bases: Vec<String>) -> Self {
        Self { http: client(), bases: bases.into(), at: 0 }
    }

    /// The same services, beginning with the one of this number.
    pub(crate) fn preferring(&self, number: usize) -> Self {
        Self { at: number % self.bases.len(), ..self.clone() }
    }

    /// The URL of a path at every service.
    pub(crate) fn urls(&self, path: &str) -> impl Iterator<Item = String> {
        self.bases.iter().map(move |base| format!("{base}{path}"))
    }

    /// Sends a command until its fate is known, under the same key and at one service after the other.
    pub(crate) async fn decide(&mut self, path: &str, key: &str, body: &str) -> (StatusCode, String) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let url = format!("{}{path}", self.bases[self.at]);
            let request = self.http.post(url).header("content-type", "application/json").header("idempotency-key", key);
            if let Ok(answer) = request.body(body.to_owned()).send().await {
                let status = answer.status();
                let is_decided = !is_away(status) && status != StatusCode::CONFLICT;
                // A kill can cut an answer off after its status.
                if let (true, Ok(text)) = (is_decided, answer.text().await) {
                    return (status, text);
                }
            }
            assert!(Instant::now() < give_up, "{key} has no fate");
            self.at = (self.at + 1) % self.bases.len();
            sleep(AGAIN_AFTER).await;
        }
    }
}
