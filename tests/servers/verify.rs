//! `bank verify` as a process beside a bank on MongoDB, NATS, Redis and Elasticsearch.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::coordinate::Version;
use shared::id::AccountId;
use shared::index::{Balance, BalanceIndex};
use shared::money::Money;

use crate::bank::Bank;

/// How often the view is compared while commands run.
const CHECKS: usize = 5;

/// How many commands run meanwhile, at least.
const COMMANDS: usize = 200;

async fn opened(bank: &Bank, money: usize) -> String {
    let account = bank.post("/accounts", &json!({ "owner": "Paulo", "money": money })).await;
    let account = account.as_str().unwrap().to_owned();
    let visible = bank.get(&format!("/balance/{account}?min_version=1&wait_ms=30000")).await;
    assert_eq!(visible.0, StatusCode::OK, "{visible:?}");
    account
}

/// Deposits, and opens an account now and then, until told to stop.
async fn trade(bank: &Bank, accounts: &[String], busy: &AtomicBool, done: &AtomicUsize) {
    while busy.load(Ordering::Relaxed) {
        let number = done.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(7) {
            bank.post("/accounts", &json!({ "owner": "Maria", "money": 1 })).await;
        } else {
            bank.post("/deposit", &json!({ "id": accounts[number % accounts.len()], "money": 1 })).await;
        }
    }
}

/// Goal: no check reports a difference while commands run and a rebuild switches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_raises_an_alarm_while_commands_run_on_servers() {
    let bank = Bank::start().await;
    let accounts = join_all((1..20).map(|money| opened(&bank, money))).await;
    let (busy, done) = (AtomicBool::new(true), AtomicUsize::new(0));
    let trading = join_all((0..4).map(|_| trade(&bank, &accounts, &busy, &done)));
    let checking = async {
        let mut checks = 0;
        while checks < CHECKS || done.load(Ordering::Relaxed) < COMMANDS {
            if checks == 1 {
                assert_eq!(bank.get("/balance/rebuild").await.0, StatusCode::ACCEPTED);
            }
            let (report, code) = bank.verify(&["--repair"]).await;
            assert_eq!((code, &report["repaired"]), (0, &json!(0)), "{report}");
            assert!(report["found"]["checked"].as_u64().unwrap() >= 19, "{report}");
            checks += 1;
        }
        busy.store(false, Ordering::Relaxed);
    };
    tokio::join!(trading, checking);
}

/// The counts of a report that must be as planted.
fn counts(report: &Value, part: &str) -> [u64; 5] {
    ["missing", "behind", "diverged", "orphans", "ahead"].map(|fault| report[part][fault].as_u64().unwrap())
}

/// Goal: a document that was deleted, one that was changed, one that is ahead and one without an account are each found
/// while the bank runs; documents with events in the store are repaired, and no version falls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_differences_on_servers_are_found_and_repaired() {
    let bank = Bank::start().await;
    let accounts = join_all((1..10).map(|money| opened(&bank, money))).await;
    let index = bank.index();
    let generation = index.generations().await.unwrap().active.unwrap();
    let right = index.get(accounts[0].parse().unwrap()).await.unwrap().unwrap();
    let other = index.get(accounts[1].parse().unwrap()).await.unwrap().unwrap();
    let planted = vec![
        Balance { balance: Money::new(1_000_000).unwrap(), ..right.clone() },
        Balance { version: Version::new(9), ..other.clone() },
        Balance { id: AccountId::from_bytes([0x77; 16]), ..right.clone() },
    ];
    index.repair(generation, planted).await.unwrap();
    let concrete = format!("{}-{generation}", bank.namespace.balance_alias());
    bank.elastic(Method::DELETE, &format!("{concrete}/_doc/{}?refresh=true", accounts[2])).await;

    let (report, code) = bank.verify(&["--patience", "2"]).await;
    assert_eq!((code, counts(&report, "found")), (7, [1, 0, 1, 1, 1]), "{report}");
    let (report, code) = bank.verify(&["--patience", "2", "--repair"]).await;
    assert_eq!((code, counts(&report, "found")), (7, [1, 0, 1, 1, 1]), "{report}");
    assert_eq!((&report["repaired"], counts(&report, "left")), (&json!(2), [0, 0, 0, 1, 1]), "{report}");
    assert_eq!(bank.get(&format!("/balance/{}", accounts[0])).await.1["balance"], 1);
    assert_eq!(bank.get(&format!("/balance/{}", accounts[1])).await.1["version"], 9, "a version has fallen");
    assert_eq!(bank.get(&format!("/balance/{}", accounts[2])).await.1["balance"], 3);
}
