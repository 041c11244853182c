//! `bank bench` against a real bank: it reports figures, and notices a wrong projection.

use std::path::Path;
use std::process::{Output, Stdio};

use axum::Router;
use axum::routing::get;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bank::{Bank, REPORT_LOST, bank_command, full_disk};
use crate::customers::PATIENCE;

/// Exit code of a run on the folder of another process.
const DATA_IN_USE: i32 = 3;

/// Exit code of a run whose balances are wrong.
const BALANCES_DIFFER: i32 = 6;

/// A short load on few accounts.
const SHORT: [&str; 8] = ["--duration", "1", "--warmup", "0", "--accounts", "20", "--connections", "4"];

async fn run(arguments: &[&str]) -> Output {
    let run = bank_command().arg("bench").args(arguments).kill_on_drop(true).output();
    timeout(PATIENCE, run).await.expect("a run ends in time").expect("the program was built with this test")
}

/// Runs a scenario against a bank, and returns its results.
async fn measure(bank: &Bank, scenario: &str, options: &[&str], folder: &Path) -> Value {
    let file = folder.join(format!("{scenario}.json"));
    let (url, balance_url) = (bank.account_url(""), bank.balance_url(""));
    let json = file.to_str().unwrap();
    let target = [scenario, "--url", &url, "--balance-url", &balance_url, "--json", json];
    let ended = run(&[&target, options].concat()).await;
    assert!(ended.status.success(), "{scenario}: {ended:?}");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[tokio::test]
async fn every_scenario_has_figures_and_right_balances() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(&folder.path().join("data")).await;
    for scenario in ["commands", "hot", "transfers", "queries"] {
        let report = measure(&bank, scenario, &SHORT, folder.path()).await;
        assert!(report["figures"]["done_per_second"].as_f64().unwrap() > 0.0, "{report}");
        assert!(report["latencies_ms"][0]["count"].as_u64().unwrap() > 0, "{report}");
        assert!(report["check"]["checked"].as_u64().unwrap() > 0, "{report}");
        assert_eq!(report["check"]["wrong_count"], 0, "{report}");
    }
    let paced = [&SHORT[..], &["--rate", "50", "--keys", "--zipf", "1.1"]].concat();
    for scenario in ["mixed", "rebuild"] {
        let report = measure(&bank, scenario, &paced, folder.path()).await;
        let kinds: Vec<&str> =
            report["latencies_ms"].as_array().unwrap().iter().filter_map(|row| row["of"].as_str()).collect();
        assert!(kinds.contains(&"visible by id") && kinds.contains(&"visible by search"), "{report}");
        assert_eq!(report["check"]["wrong_count"], 0, "{report}");
    }
    let report = measure(&bank, "rebuild", &[], folder.path()).await;
    assert!(report["figures"]["replayed_events"].as_f64().unwrap() > 100.0, "{report}");
    assert!(bank.stop().await.success());
}

#[tokio::test]
async fn a_backlog_is_written_into_an_embedded_bank_and_drained() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("report.json"));
    let (data, json) = (data.to_str().unwrap(), file.to_str().unwrap());
    let size = ["--events", "300", "--accounts", "7"];
    let ended = run(&[&["projection", "--data", data, "--json", json, "--log", "error"], &size[..]].concat()).await;
    assert!(ended.status.success(), "{ended:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(report["figures"]["visible_events_per_second"].as_f64().unwrap() > 0.0, "{report}");
}

/// Goal: a run without a target never touches the user's own bank, and leaves nothing behind.
#[tokio::test]
async fn without_a_folder_the_backlog_goes_into_a_temporary_one() {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = bank_command()
        .args(["bench", "projection", "--events", "300", "--accounts", "7", "--log", "error"])
        .current_dir(home.path())
        .env("TMPDIR", temporary.path())
        .kill_on_drop(true)
        .output();
    let ended = timeout(PATIENCE, run).await.expect("a run ends in time").unwrap();
    assert!(ended.status.success(), "{ended:?}");
    for folder in [&home, &temporary] {
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
    }
}

/// Goal: no run writes into an existing bank, whether it is running or not.
#[tokio::test]
async fn a_backlog_is_not_written_into_a_bank_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let bank = Bank::start(folder.path()).await;
    let ended = run(&["projection", "--data", data]).await;
    assert_eq!(ended.status.code(), Some(DATA_IN_USE), "{ended:?}");
    assert!(bank.stop().await.success());
    let ended = run(&["projection", "--data", data]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("set --data to a new folder"), "{ended:?}");
}

#[tokio::test]
async fn without_servers_the_limits_are_those_of_http() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limits.json");
    let ended = run(&["limits", "--duration", "1", "--json", file.to_str().unwrap()]).await;
    assert!(ended.status.success(), "{ended:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(report["figures"]["http_answers_per_second"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["figures"].as_object().unwrap().len(), 1, "{report}");
    assert!(report["setup"].to_string().contains("no "), "{report}");
}

/// Goal: a run whose results could not be written does not begin.
#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("absent/report.json");
    // Nothing listens there, so a run that began would fail differently.
    let ended = run(&["commands", "--url", "http://127.0.0.1:9", "--json", file.to_str().unwrap()]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let told = format!("cannot write {}: ", file.display());
    assert!(String::from_utf8_lossy(&ended.stderr).contains(&told), "{ended:?}");
}

/// Goal: the results of a long run are not lost with the table that cannot be written.
#[tokio::test]
async fn figures_are_kept_though_the_table_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limits.json");
    let mut limits = bank_command();
    limits.args(["bench", "limits", "--duration", "1", "--json"]).arg(&file).kill_on_drop(true);
    let running = limits.stdout(full_disk()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = timeout(PATIENCE, running.wait_with_output()).await.expect("a run ends in time").unwrap();
    assert_eq!((ended.status.code(), &*String::from_utf8_lossy(&ended.stderr)), (Some(1), REPORT_LOST));
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(report["figures"]["http_answers_per_second"].as_f64().unwrap() > 0.0, "{report}");
}

#[tokio::test]
async fn a_projection_that_shows_something_else_spoils_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let liar = format!("http://{}", listener.local_addr().unwrap());
    let lies = Router::new().route("/balance/{id}", get(async || r#"{"version":1000000,"balance":1}"#));
    let mut server = JoinSet::new();
    server.spawn(axum::serve(listener, lies).into_future());
    let target = ["commands", "--url", &bank.account_url(""), "--balance-url", &liar];
    let ended = run(&[&target[..], &SHORT].concat()).await;
    assert_eq!(ended.status.code(), Some(BALANCES_DIFFER), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stdout).contains("WRONG"), "{ended:?}");
}

/// Goal: URLs given in each other's place are told at once, each by the option it stands behind.
#[tokio::test]
async fn a_url_of_the_other_service_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let (account, balance) = (bank.account_url(""), bank.balance_url(""));
    for (arguments, told) in [
        (["commands", "--url", &balance], format!("{balance} is the balance service; --url wants the account service")),
        (
            ["rebuild", "--balance-url", &account],
            format!("{account} is the account service; --balance-url wants the balance service"),
        ),
    ] {
        let ended = run(&arguments).await;
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains(&told), "{ended:?}");
    }
    let swapped = run(&["mixed", "--url", &account, "--balance-url", &account]).await;
    assert_eq!(swapped.status.code(), Some(2), "{swapped:?}");
    assert!(bank.stop().await.success());
}

#[tokio::test]
async fn without_a_bank_a_run_says_what_is_missing() {
    let ended = run(&["commands", "--url", "http://127.0.0.1:9"]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("cannot reach 127.0.0.1:9"), "{ended:?}");
}
