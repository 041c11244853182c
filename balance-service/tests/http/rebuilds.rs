use std::time::Duration;

use axum::http::{Method, StatusCode};
use balance_service::rebuild::{Job, JobFile, JobState};
use serde_json::json;
use shared::clock::Timestamp;
use shared::index::{BalanceIndex, Generation};
use tokio::time::sleep;

use crate::fixture::{Bank, balance};
use crate::rough::{Fault, RoughIndex};

const START: [(Method, &str); 3] =
    [(Method::POST, "/balance/rebuild"), (Method::GET, "/balance/rebuild"), (Method::GET, "/rebuild/balance")];

#[tokio::test]
async fn every_spelling_starts_a_rebuild_and_a_second_one_is_told_of_the_first() {
    for (method, path) in START {
        let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
        let started = bank.ask(method, path, &[]).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.text);
        assert_eq!(started.json()["state"], "replaying");

        let second = bank.ask(Method::POST, "/balance/rebuild", &[]).await;
        assert_eq!((second.status, &second.json()["code"]), (StatusCode::CONFLICT, &json!("rebuild_running")));
        assert_eq!(second.json()["running"]["job"], started.json()["job"]);
        let detail = "a job is running; wait until it ends, or cancel it with DELETE /balance/rebuild";
        assert_eq!(second.json()["detail"], detail);

        let watched = bank.get(started.headers["location"].to_str().unwrap()).await;
        assert_eq!(watched.json()["job"], started.json()["job"]);
    }
}

#[tokio::test]
async fn whoever_starts_a_rebuild_and_has_no_answer_in_time_is_told_that_it_may_have_started() {
    for (method, path) in START {
        let (bank, _) = Bank::with(Vec::new()).await;
        let bank = bank.with_fault(Fault::Silent);
        // Nothing is left to wait for but the end of the time that a request may take.
        tokio::time::pause();
        let answer = bank.ask(method.clone(), path, &[]).await;
        tokio::time::resume();
        let told = (answer.status, &answer.json()["code"]);
        assert_eq!(told, (StatusCode::SERVICE_UNAVAILABLE, &json!("outcome_unknown")), "{method} {path}");
        assert!(!answer.headers.contains_key("retry-after"), "{method} {path}");
    }
}

#[tokio::test]
async fn asking_for_the_head_alone_starts_nothing() {
    let (bank, _) = Bank::with(Vec::new()).await;
    for (path, allowed) in [("/balance/rebuild", "DELETE,GET,POST"), ("/rebuild/balance", "GET")] {
        for method in [Method::HEAD, Method::OPTIONS] {
            let refusal = bank.ask(method, path, &[]).await;
            assert_eq!(refusal.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(refusal.headers["allow"], allowed, "{path}");
        }
    }
    let status = bank.get("/balance/rebuild/status").await;
    assert_eq!((status.status, &status.json()["code"]), (StatusCode::NOT_FOUND, &json!("no_rebuild")));
}

#[tokio::test]
async fn a_rebuild_is_cancelled_once() {
    let (bank, _) = Bank::with(Vec::new()).await;
    assert_eq!(bank.ask(Method::DELETE, "/balance/rebuild", &[]).await.json()["code"], "no_rebuild");
    bank.ask(Method::POST, "/balance/rebuild", &[]).await;
    let cancelled = bank.ask(Method::DELETE, "/balance/rebuild", &[]).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (StatusCode::OK, &json!("cancelled")));
    assert_eq!(bank.ask(Method::DELETE, "/balance/rebuild", &[]).await.json()["code"], "no_rebuild");
}

#[tokio::test]
async fn there_is_no_going_back_without_a_previous_generation() {
    let (bank, _) = Bank::with(Vec::new()).await;
    let refusal = bank.ask(Method::POST, "/balance/rebuild/rollback", &[]).await;
    assert_eq!((refusal.status, &refusal.json()["code"]), (StatusCode::CONFLICT, &json!("nothing_to_roll_back")));
    assert!(refusal.text.contains("keeps the one it replaces for BANK_KEEP_PREVIOUS_SECS"), "{}", refusal.text);
}

#[tokio::test]
async fn a_watched_job_is_streamed_until_it_is_over_or_the_service_stops() {
    let (bank, _) = Bank::with(Vec::new()).await;
    bank.ask(Method::POST, "/balance/rebuild", &[]).await;
    let events = [("accept", "text/html, text/event-stream;q=0.9")];
    let (watched, cancelled) = tokio::join!(
        bank.ask(Method::GET, "/balance/rebuild/status", &events),
        bank.ask(Method::DELETE, "/balance/rebuild", &[]),
    );
    assert_eq!(cancelled.status, StatusCode::OK);
    assert_eq!(watched.headers["content-type"], "text/event-stream");
    assert!(watched.text.starts_with("event: status\ndata: {"), "{}", watched.text);
    assert!(watched.text.contains(r#""state":"cancelled""#), "{}", watched.text);

    bank.ask(Method::POST, "/balance/rebuild", &[]).await;
    let stop = async { bank.shutdown.cancel() };
    let (watched, ()) = tokio::join!(bank.ask(Method::GET, "/balance/rebuild/status", &events), stop);
    assert!(watched.text.contains(r#""state":"replaying""#), "{}", watched.text);
}

/// Writes the job, as a conductor does.
async fn conduct(bank: &Bank, step: impl FnOnce(Job) -> Job) {
    let file = JobFile::load(&bank.store).await.unwrap();
    let job = step(file.job.clone().unwrap());
    file.save(&bank.store, job).await.unwrap();
}

/// A bank with a rebuild that fills this generation.
async fn rebuilding() -> (Bank, Generation) {
    let (bank, _) = Bank::with(Vec::new()).await;
    bank.ask(Method::POST, "/balance/rebuild", &[]).await;
    let generation = bank.index.create().await.unwrap();
    conduct(&bank, |job| Job { generation: Some(generation), ..job }).await;
    (bank, generation)
}

/// Goal: whoever watches a rebuild learns how it ends, though a backend failed for a moment.
#[tokio::test]
async fn a_watched_job_is_streamed_to_its_end_though_it_cannot_be_read_for_a_while() {
    let (bank, _) = rebuilding().await;
    let (bank, index) = RoughIndex::of(bank, None);
    let conducting = async {
        // It is asked for before the stream begins, and for its first event: two partitions each time.
        while index.checkpoints() < 4 {
            sleep(Duration::from_millis(1)).await;
        }
        index.fail_checkpoints(5);
        while index.still_fails() {
            sleep(Duration::from_millis(1)).await;
        }
        conduct(&bank, |job| job.finished(JobState::Done, Timestamp::EPOCH)).await;
    };
    let events = [("accept", "text/event-stream")];
    let (watched, ()) = tokio::join!(bank.ask(Method::GET, "/balance/rebuild/status", &events), conducting);
    assert!(watched.text.starts_with("event: status\ndata: {"), "{}", watched.text);
    let last = watched.text.trim_end().rsplit("event: ").next().unwrap();
    assert!(last.starts_with("status") && last.contains(r#""state":"done""#), "{}", watched.text);
    assert!(!watched.text.contains("event: failed"), "{}", watched.text);
}

#[tokio::test]
async fn a_rebuild_that_failed_lists_no_partitions_as_if_they_had_not_begun() {
    let (bank, generation) = rebuilding().await;
    let running = bank.get("/balance/rebuild/status").await;
    assert_eq!(running.json()["partitions"].as_array().unwrap().len(), 2, "{}", running.text);
    conduct(&bank, |job| job.finished(JobState::Failed, Timestamp::EPOCH)).await;
    bank.index.discard(generation).await.unwrap();
    let failed = bank.get("/balance/rebuild/status").await;
    assert_eq!((&failed.json()["state"], &failed.json()["partitions"]), (&json!("failed"), &json!([])));
}
