//! `kill -9` under load, again and again: what was acknowledged is there, once, and the projection agrees.
//!
//! Customers send commands over kept connections, each under an idempotency key, and repeat a command until they know
//! its fate. Every acknowledged effect goes into a journal on the test's side. Meanwhile observers watch the
//! projection, in which no account may ever go back, though it is rebuilt now and then. At the end the journal tells
//! each account's whole history, version by version, and store and projection must tell the same.

mod customer;
mod journal;
mod observer;
mod rebuild;

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bank::Bank;
use customer::Customer;
use journal::Journal;

/// How often the process is killed unless `BANK_KILL_ROUNDS` says otherwise.
const ROUNDS: usize = 20;

/// How many customers send commands at once.
const CUSTOMERS: u64 = 8;

/// How many accounts they share: few enough that two customers often mean the same one.
const ACCOUNTS: usize = 12;

/// What each account holds at the beginning.
const OPENING: i64 = 5_000;

/// How many acknowledgements lie between two kills: a kill soon after the start and a kill in full flight both happen.
const ACKNOWLEDGED_BETWEEN: std::ops::Range<usize> = 1..250;

/// Every how manieth round begins with a rebuild, so that kills find it at work.
const REBUILD_EVERY: usize = 2;

fn rounds() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the size of a test is no setting of the bank")]
    let asked = std::env::var("BANK_KILL_ROUNDS");
    asked.map_or(ROUNDS, |text| text.parse().expect("BANK_KILL_ROUNDS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_once_and_the_projection_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let mut bank = Bank::start(folder.path()).await;
    let journal = Arc::new(Journal::default());
    let accounts = customer::open_accounts(&bank, &journal, ACCOUNTS, OPENING).await;

    let stop = CancellationToken::new();
    let mut customers = JoinSet::new();
    for number in 0..CUSTOMERS {
        let customer = Customer::new(number, &bank, accounts.clone(), Arc::clone(&journal));
        customers.spawn(customer.trade(stop.clone()));
    }
    let mut observers = JoinSet::new();
    observers.spawn(observer::watch(bank.balance_url("/balance"), accounts.clone(), stop.clone()));

    let mut random = StdRng::seed_from_u64(9);
    for round in 0..rounds() {
        if round % REBUILD_EVERY == 0 {
            rebuild::request(&bank).await;
        }
        journal.wait_for_more(random.random_range(ACKNOWLEDGED_BETWEEN)).await;
        bank.kill_and_restart().await;
    }
    stop.cancel();
    while let Some(ended) = customers.join_next().await {
        ended.unwrap();
    }
    let sightings = observers.join_next().await.unwrap().unwrap();
    assert!(sightings > 0, "the observer saw nothing, so it proved nothing");

    rebuild::prove(&bank).await;
    let mut total = 0;
    for account in &accounts {
        let history = journal.history(account);
        let last = journal::check_history(account, &history);
        let stored: Value = customer::get(&bank.account_url(&format!("/accounts/{account}"))).await;
        assert_eq!((&stored["version"], &stored["balance"]), (&last.version.into(), &last.balance.into()), "{account}");
        let url = bank.balance_url(&format!("/balance/{account}?min_version={}&wait_ms=30000", last.version));
        let shown: Value = customer::get(&url).await;
        for field in ["version", "balance", "owner", "status", "currency"] {
            assert_eq!(shown[field], stored[field], "{field} of {account} in the projection");
        }
        total += last.balance;
    }
    assert_eq!(total, journal.money_from_outside(), "money is conserved");
    customer::repeat_some(&journal).await;
    for account in &accounts {
        let stored: Value = customer::get(&bank.account_url(&format!("/accounts/{account}"))).await;
        let last = journal.history(account).len();
        assert_eq!(stored["version"], last, "a repeated command left something behind in {account}");
    }
    assert!(bank.stop().await.success());
}
