//! A bank whose disk takes nothing for a while: a limit of the kernel on the size of its files, which counts at once.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::bank::Bank;
use crate::customers::PATIENCE;

/// Far below the time that a batch keeps trying.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn deposit(http: &Client, bank: &Bank, account: &str) -> Response {
    let deposit = json!({ "id": account, "money": 1 });
    http.post(bank.account_url("/deposit")).json(&deposit).send().await.expect("the bank answers at once")
}

async fn status_of(http: &Client, url: String) -> StatusCode {
    http.get(url).send().await.expect("the bank answers at once").status()
}

/// Goal: on a full disk, commands are refused at once and for certain, the bank is not ready, and goes on when there is
/// space again.
#[tokio::test]
async fn a_full_disk_is_told_at_once_and_the_bank_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start_with_files_of_any_size(folder.path()).await;
    let http = Client::builder().no_proxy().timeout(AT_ONCE).build().unwrap();
    let opening = http.post(bank.account_url("/accounts")).json(&json!({ "owner": "Paulo" }));
    let account: String = opening.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
    assert_eq!(deposit(&http, &bank, &account).await.status(), 200);
    let shown = bank.balance_url(&format!("/balance/{account}"));
    timeout(PATIENCE, async {
        while status_of(&http, format!("{shown}?min_version=2&wait_ms=1000")).await != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the deposit is shown in time");

    bank.limit_files_to(0);
    // What the first one has left cannot be removed.
    assert_eq!(deposit(&http, &bank, &account).await.status(), 503);
    for _ in 0..3 {
        let refused = deposit(&http, &bank, &account).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(refused.json::<Value>().await.unwrap()["code"], "unavailable", "it is known to have had no effect");
    }
    assert_eq!(status_of(&http, bank.account_url("/readyz")).await, 503);
    assert_eq!(status_of(&http, bank.account_url("/healthz")).await, 200);
    assert_eq!(status_of(&http, shown).await, 200);

    bank.limit_files_to(u64::MAX);
    assert_eq!(status_of(&http, bank.account_url("/readyz")).await, 200);
    let after: Value = deposit(&http, &bank, &account).await.error_for_status().unwrap().json().await.unwrap();
    // The first one had an unknown outcome, and may have been taken.
    assert!(after["balance"] == 2 || after["balance"] == 3, "{after}");
    assert!(bank.stop().await.success());
}
