use std::time::Duration;

use serde_json::{Value, json};
use shared::index::{Balance, BalanceIndex};
use shared::money::Money;
use shared::store::Registers;
use shared::telemetry::metric::{DOCUMENTS_WRONG, VERIFIED_SECONDS};
use shared::telemetry::{MetricsReader, install_metrics};

use crate::bank::{Bank, until};

const EVERY: Duration = Duration::from_secs(1);

/// The value of a series; `None` if it is not shown.
fn shown(metrics: &MetricsReader, series: &str) -> Option<f64> {
    let rendered = metrics.render();
    let of_series = |line: &str| line.rsplit_once(' ').filter(|(name, _)| *name == series)?.1.parse::<f64>().ok();
    rendered.lines().find_map(of_series)
}

/// What is noted of the last verification.
async fn noted(bank: &Bank) -> Option<Value> {
    let register = bank.ports.store.read_register("verify/balance").await.unwrap()?;
    Some(serde_json::from_slice(&register.value).unwrap())
}

/// Goal: a document that somebody edited, without a change of its version, is found although nobody asks for a check,
/// and is left as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_document_at_the_right_version_is_found_without_being_asked_for() {
    let metrics = install_metrics().unwrap();
    let diverged = format!("{}{{fault=\"diverged\"}}", DOCUMENTS_WRONG.name);
    let folder = tempfile::tempdir().unwrap();
    let mut bank = Bank::open(folder.path()).await;
    bank.start_forwarder();
    bank.start_projection_verifying("one", EVERY);
    bank.wait_for_view().await;
    let account = bank.opened(5).await;
    bank.wait_until_settled(&[account]).await;
    until("the view is verified", async || noted(&bank).await.is_some()).await;
    let clean = noted(&bank).await.unwrap();
    assert_eq!(clean["found"]["diverged"], 0);

    let right = bank.visible(account).await.unwrap();
    let wrong = Balance { balance: Money::new(31).unwrap(), ..right };
    bank.ports.index.repair(bank.active().await, vec![wrong.clone()]).await.unwrap();
    until("the wrong document shows", async || shown(&metrics, &diverged) == Some(1.0)).await;
    until("it is noted", async || noted(&bank).await.unwrap()["found"]["diverged"] == 1).await;
    let found = noted(&bank).await.unwrap();
    assert_eq!(found["found"]["findings"][0]["account"], json!(account));
    assert_ne!(found["ended_at"], clean["ended_at"]);
    assert!(shown(&metrics, VERIFIED_SECONDS.name).is_some_and(|seconds| seconds > 1e9));
    assert_eq!(bank.visible(account).await, Some(wrong), "nobody asked for a repair");
}

/// Goal: when a generation was verified last is known after each switch to it, although every switch is a job, which
/// takes the place of the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verifications_of_both_generations_outlast_the_jobs_that_made_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut bank = Bank::open(folder.path()).await;
    bank.start_forwarder();
    // A conductor that lost its lease behind a job would leave the note to the routine, which does not run here.
    bank.start_projection_leasing("one", Duration::from_mins(1));
    bank.wait_for_view().await;
    let first = bank.active().await;
    bank.rebuild().await;
    let second = bank.active().await;
    let is_noted = async || {
        let note = noted(&bank).await.unwrap_or_default();
        note["generation"] == second.0 && note["other"]["generation"] == first.0
    };
    until("both verifications are noted", async || is_noted().await).await;
    for active in [first, second] {
        bank.rebuilds.rollback().await.unwrap();
        bank.wait_for_job().await;
        assert_eq!(bank.active().await, active);
        assert!(is_noted().await);
    }
}
