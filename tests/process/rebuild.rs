//! `bank rebuild` and `bank rollback`, as whoever is on call runs them beside a bank that is open.

use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get as on_get, post as on_post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bank::{Bank, REPORT_LOST, bank_command, full_disk};
use crate::customers::{AGAIN_AFTER, ASK, PATIENCE, get};

/// A job that does not end.
const RUNNING: &str = r#"{
    "job": "0198c1a2-7f00-7000-8000-000000000001", "purpose": "rebuild", "state": "replaying",
    "generation": 2, "previous": 1, "started_at": "2026-01-01T00:00:00Z", "finished_at": null,
    "keep_previous_until": null, "partitions": [{ "partition": 1, "state": "replaying", "done": 5, "total": 10 }],
    "events_per_second": null, "eta_seconds": null, "verification": null, "failure": null
}"#;

fn command(kind: &str, url: &str, arguments: &[&str]) -> Command {
    let mut command = bank_command();
    command.args([kind, "--url", url]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Serves until the set is dropped, and says at which URL.
async fn serve(service: Router) -> (String, JoinSet<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(axum::serve(listener, service).into_future());
    (url, server)
}

/// The exit code of a run, and all that it said.
async fn run(kind: &str, url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    told(&timeout(PATIENCE, command(kind, url, arguments).output()).await.expect("it ends").unwrap())
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    (output.status.code(), text)
}

/// The last job of a bank, as soon as it has ended.
async fn ended_job(bank: &Bank) -> Value {
    let ended = timeout(PATIENCE, async {
        loop {
            let job = get(&bank.balance_url("/balance/rebuild/status")).await;
            if !job["finished_at"].is_null() {
                return job;
            }
            sleep(AGAIN_AFTER).await;
        }
    });
    ended.await.expect("a job ends in time")
}

/// A bank with a view and one account, whose first job has ended.
async fn with_account(folder: &Path) -> Bank {
    let bank = Bank::start(folder).await;
    let opening = ASK.post(bank.account_url("/accounts")).json(&serde_json::json!({ "owner": "Paulo", "money": 50 }));
    opening.send().await.unwrap().error_for_status().unwrap();
    // There is a job as soon as there is a view.
    get(&bank.balance_url("/balance")).await;
    ended_job(&bank).await;
    bank
}

/// Goal: one command rebuilds the view and says what was verified, another one goes back, and scripts can tell whether
/// queries were switched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_is_waited_for_and_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let bank = with_account(folder.path()).await;
    let url = bank.balance_url("");

    let (code, text) = run("rollback", &url, &[]).await;
    assert_eq!(code, Some(9), "{text}");
    assert!(text.contains("no previous generation is kept"), "{text}");

    let (code, text) = run("rebuild", &url, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("rebuild       done after "), "{text}");
    assert!(text.contains("verified      1 document compared with the store, 0 wrong\n"), "{text}");
    assert!(text.contains("bank rollback returns to it\n"), "{text}");
    let job = ended_job(&bank).await;
    assert_eq!((&job["purpose"], &job["state"]), (&"rebuild".into(), &"done".into()), "{job}");

    let (code, text) = run("rollback", &url, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("rollback      done after "), "{text}");
    assert_eq!(ended_job(&bank).await["generation"], job["previous"], "{text}");
    assert!(bank.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_not_waited_for_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bank = with_account(folder.path()).await;
    let (code, text) = run("rebuild", &bank.balance_url(""), &["--no-wait"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("curl {} shows it", bank.balance_url("/balance/rebuild/status"))), "{text}");
    let job = ended_job(&bank).await;
    assert_eq!((&job["purpose"], &job["state"]), (&"rebuild".into(), &"done".into()), "{job}");
    assert!(text.contains(job["job"].as_str().unwrap()), "{text}");
    assert!(bank.stop().await.success());
}

/// Goal: whoever presses Ctrl-C is not left to believe that this has cancelled the job.
#[tokio::test]
async fn ctrl_c_leaves_the_job_running_and_says_how_to_cancel_it() {
    let looked = Arc::new(Notify::new());
    let looking = Arc::clone(&looked);
    let status = move || async move {
        looking.notify_one();
        RUNNING
    };
    let service = Router::new()
        .route("/balance/rebuild", on_post(async || (StatusCode::ACCEPTED, RUNNING)))
        .route("/balance/rebuild/status", on_get(status));
    let (url, _server) = serve(service).await;

    let running = command("rebuild", &url, &[]).spawn().unwrap();
    timeout(PATIENCE, looked.notified()).await.expect("the job is watched");
    let interrupt = format!("kill -INT {}", running.id().expect("it runs"));
    assert!(Command::new("sh").args(["-c", &interrupt]).status().await.unwrap().success());
    let (code, text) = told(&timeout(PATIENCE, running.wait_with_output()).await.expect("it ends").unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("bank: the rebuild goes on without being watched; "), "{text}");
    assert!(text.contains(&format!("curl -X DELETE {url}/balance/rebuild cancels it")), "{text}");
}

/// Goal: nobody takes a rebuild that has begun for one that was refused, and asks for another.
#[tokio::test]
async fn a_proxy_that_has_lost_the_answer_leaves_it_open_whether_the_job_has_begun() {
    let lost = on_post(async || (StatusCode::BAD_GATEWAY, Html("<h1>502 Bad Gateway</h1>")));
    let (url, _server) = serve(Router::new().route("/balance/rebuild", lost)).await;
    let (code, text) = run("rebuild", &url, &[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("answers 502 Bad Gateway"), "{text}");
    assert!(text.contains("so the job may have begun; "), "{text}");
    assert!(text.contains(&format!("curl {url}/balance/rebuild/status shows it")), "{text}");
}

/// Goal: a rebuild is done even if its report cannot be written, which is told in one sentence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_whose_report_is_lost_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let bank = with_account(folder.path()).await;
    let rebuild = command("rebuild", &bank.balance_url(""), &[]).stdout(full_disk()).spawn().unwrap();
    let output = timeout(PATIENCE, rebuild.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!(told(&output), (Some(1), REPORT_LOST.to_owned()));
    assert_eq!(ended_job(&bank).await["purpose"], "rebuild");
    assert!(bank.stop().await.success());
}

#[tokio::test]
async fn a_url_without_a_balance_service_is_told_apart_by_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let account = bank.account_url("");
    for kind in ["rebuild", "rollback"] {
        let (code, text) = run(kind, &account, &[]).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&format!("{account} is the account service; --url wants the balance service")), "{text}");
        let (code, text) = run(kind, "http://127.0.0.1:9", &[]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("no balance service answers at http://127.0.0.1:9"), "{text}");
        let (code, text) = run(kind, "http://127.0.0.1:9", &["--help"]).await;
        assert!(code == Some(0) && text.contains("9  rebuild, rollback: refused, failed or cancelled"), "{text}");
    }
    assert!(bank.stop().await.success());
}
