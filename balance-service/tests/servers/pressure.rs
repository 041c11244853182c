//! A server whose disk is full.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use shared::index::BalanceIndex;
use shared::partition::SlotRange;

use crate::bank::{Bank, ask};

/// Longer than a worker tries before it is started again.
const OUTAGE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_wait_out_a_full_disk_and_park_nobody() {
    let bank = Bank::open().await;
    let active = bank.ports.index.generations().await.unwrap().active.unwrap();
    let settings = format!("{}-{active}/_settings", bank.alias);
    let full = json!({ "index.blocks.read_only_allow_delete": true });
    assert_eq!(ask(Method::PUT, &settings, Some(full)).await.0, 200);
    let outage = async {
        let ends = tokio::time::Instant::now() + OUTAGE;
        while tokio::time::Instant::now() < ends {
            bank.append().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    bank.while_watched(outage).await;
    assert_eq!(bank.ports.index.parked(active, SlotRange::ALL, None, 10).await.unwrap(), []);
    let room = json!({ "index.blocks.read_only_allow_delete": Value::Null });
    assert_eq!(ask(Method::PUT, &settings, Some(room)).await.0, 200);
    bank.while_watched(bank.wait_until_settled()).await;
    assert_eq!(bank.ports.index.parked(active, SlotRange::ALL, None, 10).await.unwrap(), []);
    bank.remove().await;
}
