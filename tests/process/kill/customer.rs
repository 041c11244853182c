//! A customer: sends commands until told to stop, and never gives up on one before its fate is known.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::journal::{Acknowledged, Effect, Journal};
use crate::bank::{Bank, PATIENCE};

/// How long a customer waits before sending a command again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// How long a request may take before its fate counts as unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest amount of a command: withdrawals beyond the balance happen, and are refused.
const MONEY_MAX: i64 = 400;

/// Every how manieth command is repeated at the end.
const REPEAT_EVERY: usize = 10;

/// A client that keeps its connections.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build().unwrap()
}

/// Reads something that must be there.
pub(crate) async fn get(url: &str) -> Value {
    let answer = client().get(url).timeout(PATIENCE).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{url}");
    answer.json().await.unwrap()
}

/// Opens accounts and writes them down.
pub(crate) async fn open_accounts(bank: &Bank, journal: &Journal, count: usize, opening: i64) -> Vec<String> {
    let http = client();
    let mut accounts = Vec::new();
    for number in 0..count {
        let body = json!({ "owner": format!("owner {number}"), "money": opening }).to_string();
        let (url, key) = (bank.account_url("/accounts"), format!("open-{number}"));
        let (status, answer) = send_until_decided(&http, &url, &key, &body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let id: String = serde_json::from_str(&answer).unwrap();
        let effect = Effect { version: 1, balance: opening, change: opening };
        journal.acknowledge(Acknowledged { url, key, body, answer }, vec![(id.clone(), effect)], opening);
        accounts.push(id);
    }
    accounts
}

/// Sends commands of earlier again, under their keys: each must have the answer it had.
pub(crate) async fn repeat_some(journal: &Journal) {
    let http = client();
    for command in journal.commands().into_iter().step_by(REPEAT_EVERY) {
        let Acknowledged { url, key, body, answer } = command;
        let (status, again) = send_until_decided(&http, &url, &key, &body).await;
        assert!(status.is_success(), "{key}: {status} {again}");
        assert_eq!(again, answer, "the answer to {key} has changed");
    }
}

async fn send_until_decided(http: &reqwest::Client, url: &str, key: &str, body: &str) -> (StatusCode, String) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let request = http.post(url).header("content-type", "application/json").header("idempotency-key", key);
        if let Ok(answer) = request.body(body.to_owned()).send().await {
            let status = answer.status();
            let is_decided = !status.is_server_error() && status != StatusCode::CONFLICT;
            // A kill can cut an answer off behind its status.
            if let (true, Ok(text)) = (is_decided, answer.text().await) {
                return (status, text);
            }
        }
        assert!(Instant::now() < give_up, "{key} has no fate");
        sleep(AGAIN_AFTER).await;
    }
}

/// One of several who trade with the same accounts.
pub(crate) struct Customer {
    number: u64,
    random: StdRng,
    http: reqwest::Client,
    base: String,
    accounts: Vec<String>,
    journal: Arc<Journal>,
}

struct Order {
    path: &'static str,
    body: Value,
    /// The accounts it changes, where the answer speaks of them, and what it adds to each.
    sides: Vec<(String, &'static str, i64)>,
    from_outside: i64,
}

impl Customer {
    pub(crate) fn new(number: u64, bank: &Bank, accounts: Vec<String>, journal: Arc<Journal>) -> Self {
        let random = StdRng::seed_from_u64(number);
        Self { number, random, http: client(), base: bank.account_url(""), accounts, journal }
    }

    pub(crate) async fn trade(mut self, stop: CancellationToken) {
        let mut count = 0;
        while !stop.is_cancelled() {
            let Order { path, body, sides, from_outside } = self.next_order();
            let (url, key) = (format!("{}{path}", self.base), format!("customer-{}-{count}", self.number));
            let body = body.to_string();
            let (status, answer) = send_until_decided(&self.http, &url, &key, &body).await;
            count += 1;
            if status == StatusCode::UNPROCESSABLE_ENTITY {
                assert!(answer.contains("insufficient_funds"), "{answer}");
                continue;
            }
            assert!(status.is_success(), "{status} {answer}");
            let told: Value = serde_json::from_str(&answer).unwrap();
            let effects = sides.into_iter().map(|(account, place, change)| {
                let side = told.pointer(place).unwrap();
                assert_eq!(side["id"], account.as_str());
                let (version, balance) = (side["version"].as_u64().unwrap(), side["balance"].as_i64().unwrap());
                (account, Effect { version, balance, change })
            });
            self.journal.acknowledge(
                Acknowledged { url, key, body, answer: answer.clone() },
                effects.collect(),
                from_outside,
            );
        }
    }

    fn next_order(&mut self) -> Order {
        let money = self.random.random_range(1..=MONEY_MAX);
        let first = self.random.random_range(0..self.accounts.len());
        let account = self.accounts[first].clone();
        match self.random.random_range(0..4) {
            0 => Order {
                path: "/deposit",
                body: json!({ "id": account, "money": money }),
                sides: vec![(account, "", money)],
                from_outside: money,
            },
            1 => Order {
                path: "/withdraw",
                body: json!({ "id": account, "money": money }),
                sides: vec![(account, "", -money)],
                from_outside: -money,
            },
            _ => {
                let distance = self.random.random_range(1..self.accounts.len());
                let other = self.accounts[(first + distance) % self.accounts.len()].clone();
                Order {
                    path: "/transfer",
                    body: json!({ "from": account, "to": other, "money": money }),
                    sides: vec![(account, "/from", -money), (other, "/to", money)],
                    from_outside: 0,
                }
            }
        }
    }
}
