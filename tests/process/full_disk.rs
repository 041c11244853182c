//! A bank whose disk takes nothing for a while: a limit of the kernel on the size of its files, which counts at once.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::bank::Bank;
use crate::customers::{PATIENCE, get};

/// Below the time that a batch keeps trying, less its longest pause.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A page in SQLite's write-ahead log, with its header.
const FRAME_BYTES: u64 = 24 + 4096;

/// How many deposits may be taken before one meets the limit.
const TAKEN_MAX: u64 = 200;

/// A client that waits this long for an answer.
fn client(limit: Duration) -> Client {
    Client::builder().no_proxy().timeout(limit).build().unwrap()
}

async fn open(http: &Client, bank: &Bank) -> String {
    let opening = http.post(bank.account_url("/accounts")).json(&json!({ "owner": "Paulo" }));
    opening.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

async fn deposit(http: &Client, bank: &Bank, account: &str) -> Response {
    let deposit = json!({ "id": account, "money": 1 });
    http.post(bank.account_url("/deposit")).json(&deposit).send().await.expect("the bank answers in time")
}

async fn balance_after(deposit: Response) -> u64 {
    deposit.error_for_status().unwrap().json::<Value>().await.unwrap()["balance"].as_u64().unwrap()
}

/// Asserts that a deposit was refused, and is known to have had no effect.
async fn assert_known_refusal(refused: Response) {
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "unavailable");
}

async fn status_of(http: &Client, url: String) -> StatusCode {
    http.get(url).send().await.expect("the bank answers in time").status()
}

/// Goal: on a full disk, commands are refused at once and for certain, the account service is not ready, and goes on
/// when there is space again; queries need no space.
#[tokio::test]
async fn a_full_disk_is_told_at_once_and_the_bank_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start_with_files_of_any_size(folder.path()).await;
    let (http, hasty) = (client(PATIENCE), client(AT_ONCE));
    let account = open(&http, &bank).await;
    assert_eq!(balance_after(deposit(&http, &bank, &account).await).await, 1);
    let shown = bank.balance_url(&format!("/balance/{account}"));
    get(&format!("{shown}?min_version=2&wait_ms=30000")).await;

    bank.limit_files_to(0);
    for _ in 0..4 {
        assert_known_refusal(deposit(&hasty, &bank, &account).await).await;
    }
    assert_eq!(status_of(&hasty, bank.account_url("/readyz")).await, 503);
    assert_eq!(status_of(&hasty, bank.account_url("/healthz")).await, 200);
    assert_eq!(status_of(&hasty, bank.balance_url("/readyz")).await, 200);
    assert_eq!(status_of(&hasty, shown).await, 200);

    bank.limit_files_to(u64::MAX);
    assert_eq!(status_of(&http, bank.account_url("/readyz")).await, 200);
    assert_eq!(balance_after(deposit(&http, &bank, &account).await).await, 2);
    assert!(bank.stop().await.success());
}

/// Goal: a commit of which only some pages could be written is refused for certain, and no crash brings it back.
#[tokio::test]
async fn a_commit_that_a_full_disk_has_torn_had_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let mut bank = Bank::start_with_files_of_any_size(folder.path()).await;
    let http = client(PATIENCE);
    let account = open(&http, &bank).await;
    let mut taken = 0;
    let refusal = loop {
        let log = std::fs::metadata(folder.path().join("store.db-wal")).unwrap().len();
        // One page has room, and a commit takes several.
        bank.limit_files_to(log + FRAME_BYTES);
        let answer = deposit(&http, &bank, &account).await;
        bank.limit_files_to(u64::MAX);
        if answer.status() != 200 {
            break answer;
        }
        // The limit has met another write to the file, behind which the log was begun anew.
        taken += 1;
        assert!(taken < TAKEN_MAX, "no deposit meets the limit");
    };
    assert_known_refusal(refusal).await;
    bank.kill_and_restart().await;
    assert_eq!(balance_after(deposit(&http, &bank, &account).await).await, taken + 1);
    assert!(bank.stop().await.success());
}
