//! Rebuilds during the kills, and one after them that proves the view.

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{AGAIN_AFTER, ASK, PATIENCE, get};

/// Requests a rebuild from a balance service; returns whether it accepted. One may be running already, and a service
/// that has just started may not be ready for one.
pub(crate) async fn request(view: &str) -> bool {
    let Ok(answer) = ASK.post(format!("{view}/balance/rebuild")).send().await else { return false };
    let status = answer.status();
    let expected = [StatusCode::ACCEPTED, StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE];
    assert!(expected.contains(&status), "{status}");
    status == StatusCode::ACCEPTED
}

/// Rebuilds, and waits until the bank has compared every document with the store and found nothing.
pub(crate) async fn prove(view: &str) {
    let job = timeout(PATIENCE, async {
        while !request(view).await {
            sleep(AGAIN_AFTER).await;
        }
        loop {
            let job: Value = get(&format!("{view}/balance/rebuild/status")).await;
            if !job["finished_at"].is_null() {
                return job;
            }
            sleep(AGAIN_AFTER).await;
        }
    });
    let job = job.await.expect("a rebuild ends in time");
    assert_eq!(job["state"], "done", "{job}");
    for fault in ["missing", "behind", "diverged", "orphans", "ahead", "parked"] {
        assert_eq!(job["verification"][fault], 0, "{job}");
    }
}
