//! Rebuilds among the kills, and one behind them that proves the view.

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::timeout;

use super::customer;
use crate::bank::{Bank, PATIENCE};

/// Asks for a rebuild. One may run already, and a bank that has just started may not be ready for one.
pub(crate) async fn request(bank: &Bank) -> StatusCode {
    let answer = customer::client().post(bank.balance_url("/balance/rebuild")).send().await.unwrap();
    let status = answer.status();
    let expected = [StatusCode::ACCEPTED, StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE];
    assert!(expected.contains(&status), "{status}");
    status
}

/// Rebuilds, and waits until the bank has compared every document with the store and found nothing.
pub(crate) async fn prove(bank: &Bank) {
    let job = timeout(PATIENCE, async {
        while request(bank).await != StatusCode::ACCEPTED {
            tokio::task::yield_now().await;
        }
        loop {
            let job: Value = customer::get(&bank.balance_url("/balance/rebuild/status")).await;
            if !job["finished_at"].is_null() {
                return job;
            }
        }
    });
    let job = job.await.expect("a rebuild ends in time");
    assert_eq!(job["state"], "done", "{job}");
    for fault in ["missing", "behind", "diverged", "orphans", "ahead", "parked"] {
        assert_eq!(job["verification"][fault], 0, "{job}");
    }
}
