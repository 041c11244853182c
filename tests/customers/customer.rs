//! A customer: sends commands until told to stop, and never gives up on one before its fate is known.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::desks::Desks;
use super::journal::{Acknowledged, Effect, Journal};

/// The largest amount of a command: withdrawals beyond the balance happen, and are refused.
const MONEY_MAX: i64 = 400;

/// How long a customer who is not in a hurry waits before each command, in milliseconds. Customers who never wait leave
/// too little of a small machine to the bank.
const CALM: Range<u64> = 50..100;

/// Opens accounts and records them.
pub(crate) async fn open_accounts(desks: &Desks, journal: &Journal, count: usize, opening: i64) -> Vec<String> {
    let mut desks = desks.clone();
    let mut accounts = Vec::new();
    for number in 0..count {
        let body = json!({ "owner": format!("owner {number}"), "money": opening }).to_string();
        let (path, key) = ("/accounts", format!("open-{number}"));
        let (status, answer) = desks.decide(path, &key, &body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let id: String = serde_json::from_str(&answer).unwrap();
        let effect = Effect { version: 1, balance: opening, change: opening };
        journal.acknowledge(Acknowledged { path, key, body, answer }, vec![(id.clone(), effect)], opening);
        accounts.push(id);
    }
    accounts
}

/// One of several customers of the same accounts.
pub(crate) struct Customer {
    number: usize,
    random: StdRng,
    desks: Desks,
    accounts: Vec<String>,
    journal: Arc<Journal>,
    hurry: watch::Receiver<bool>,
}

struct Order {
    path: &'static str,
    body: Value,
    /// For each account it changes: the account, where the answer speaks of it, and what is added to it.
    sides: Vec<(String, &'static str, i64)>,
    from_outside: i64,
}

impl Customer {
    /// A customer who sends one command after the other while `hurry` is true, and waits between them otherwise.
    pub(crate) fn new(
        number: usize,
        desks: &Desks,
        accounts: Vec<String>,
        journal: Arc<Journal>,
        hurry: watch::Receiver<bool>,
    ) -> Self {
        let random = StdRng::seed_from_u64(number as u64);
        Self { number, random, desks: desks.preferring(number), accounts, journal, hurry }
    }

    pub(crate) async fn trade(mut self, stop: CancellationToken) {
        let mut count = 0;
        while stop.run_until_cancelled(self.pause()).await.is_some() {
            let Order { path, body, sides, from_outside } = self.next_order();
            let (key, body) = (format!("customer-{}-{count}", self.number), body.to_string());
            let (status, answer) = self.desks.decide(path, &key, &body).await;
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
                Acknowledged { path, key, body, answer: answer.clone() },
                effects.collect(),
                from_outside,
            );
        }
    }

    /// Waits for a while, or until there is a hurry.
    async fn pause(&mut self) {
        let calm = Duration::from_millis(self.random.random_range(CALM));
        tokio::select! {
            biased;
            Ok(_) = self.hurry.wait_for(|hurry| *hurry) => {}
            () = sleep(calm) => {}
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
