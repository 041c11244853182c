//! How the process starts and ends, as scripts and people see it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use futures::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::bank::{Bank, bank_command, closed_pipe, full_disk};
use crate::customers::{ASK, PATIENCE, get};

/// Far longer than an answer takes, and shorter than an idle connection is kept.
const TURN_MAX: Duration = Duration::from_secs(5);

/// Runs a bank that must end by itself.
async fn run(data: &Path, arguments: &[&str]) -> Output {
    let mut command = bank_command();
    command.args(arguments).env("BANK_DATA", data).stdin(Stdio::null()).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.expect("it ends").expect("the program was built with this test")
}

fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused_with_a_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let first = Bank::start(folder.path()).await;
    let free = ["--account-addr", "127.0.0.1:0", "--balance-addr", "127.0.0.1:0"];
    let second = run(folder.path(), &free).await;
    assert_eq!(second.status.code(), Some(3), "{}", stderr_of(&second));
    assert!(stderr_of(&second).contains("is in use by process"), "{}", stderr_of(&second));
    assert!(stderr_of(&second).contains("separate services need servers (BANK_STORE_URL"), "{}", stderr_of(&second));
    assert!(first.stop().await.success());
    Bank::start(folder.path()).await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_the_flag_that_changes_it() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(folder.path(), &["serve", "--account-addr", &address]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains(&format!("cannot listen on {address}")), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("--account-addr"), "{}", stderr_of(&output));
}

/// Goal: an error of the operating system is reported once, however many failures pass it on.
#[tokio::test]
async fn a_failure_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no-folder");
    std::fs::write(&file, "").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = folder.path().join("data");
    for (data, arguments) in [(&file, &["serve"][..]), (&free, &["serve", "--account-addr", &address])] {
        let output = run(data, arguments).await;
        let text = stderr_of(&output);
        let told = text.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(told.starts_with("bank: ") && told.matches("(os error ").count() == 1, "{text}");
    }
}

/// Goal: no message asks users to throw money away because of a file that can be rebuilt from the store.
#[tokio::test]
async fn a_damaged_file_is_refused_with_advice_that_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Bank::start(folder.path()).await.stop().await.success());
    let anywhere = ["--account-addr", "127.0.0.1:0", "--balance-addr", "127.0.0.1:0"];
    for (name, is_built_again) in [("store.db", false), ("log.db", true), ("leases.db", true), ("index.db", true)] {
        let file = folder.path().join(name);
        let sound = std::fs::read(&file).unwrap();
        std::fs::write(&file, "garbage").unwrap();
        let output = run(folder.path(), &anywhere).await;
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stderr_of(&output));
        let advice = format!("delete {}* (also -wal, -shm); it is built again from the store", file.display());
        assert_eq!(stderr_of(&output).contains(&advice), is_built_again, "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains(&format!("{} is damaged", file.display())), "{}", stderr_of(&output));
        std::fs::write(&file, sound).unwrap();
    }
    Bank::start(folder.path()).await;
}

/// Goal: a number of partitions that is not the bank's is a wrong setting, and the advice for an embedded bank works.
#[tokio::test]
async fn another_number_of_partitions_is_refused_with_the_one_that_the_folder_has() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Bank::start(folder.path()).await.stop().await.success());
    let left = content(folder.path());
    let anywhere = ["--account-addr", "127.0.0.1:0", "--balance-addr", "127.0.0.1:0"];
    for arguments in [&anywhere[..], &["verify"]] {
        let output = run(folder.path(), &[arguments, &["--partitions", "9"]].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
        let told =
            "has 8 partitions, not 9: set --partitions 8 (BANK_PARTITIONS=8), with which its data folder was made";
        assert!(stderr_of(&output).contains(told), "{}", stderr_of(&output));
        assert!(content(folder.path()) == left, "{arguments:?} changed a file");
    }
    Bank::start(folder.path()).await;
}

/// What a folder holds, but for the lock, which names the last process that opened the folder.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| !file.ends_with("LOCK"));
    files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

/// Removes the file of this name with its write-ahead log.
fn remove(folder: &Path, name: &str) {
    for file in content(folder).into_keys() {
        if file.file_name().unwrap().to_str().unwrap().starts_with(name) {
            std::fs::remove_file(file).unwrap();
        }
    }
}

/// Goal: a bank that has lost its store does not begin an empty one that shows the balances of the old one.
#[tokio::test]
async fn a_lost_store_is_refused_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Bank::start(folder.path()).await.stop().await.success());
    let store = folder.path().join("store.db");
    let sound = std::fs::read(&store).unwrap();
    remove(folder.path(), "store.db");
    let left = content(folder.path());
    let anywhere = ["--account-addr", "127.0.0.1:0", "--balance-addr", "127.0.0.1:0"];
    for arguments in [&anywhere[..], &["verify"]] {
        let output = run(folder.path(), arguments).await;
        assert_eq!(output.status.code(), Some(1), "{}", stderr_of(&output));
        let told = format!("{} is missing, but index.db is there", store.display());
        assert!(stderr_of(&output).contains(&told), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains("restore it from a backup"), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains("to begin an empty bank, only delete these"), "{}", stderr_of(&output));
        assert!(content(folder.path()) == left, "{arguments:?} changed a file");
    }
    std::fs::write(&store, sound).unwrap();
    Bank::start(folder.path()).await;
}

/// Goal: wherever a first start was interrupted, the next one begins the bank.
#[tokio::test]
async fn a_first_start_that_was_interrupted_is_no_lost_store() {
    /// In the order in which a start creates them.
    const FILES: [&str; 4] = ["store.db", "log.db", "leases.db", "index.db"];
    let folder = tempfile::tempdir().unwrap();
    for created in (0..=FILES.len()).rev() {
        assert!(Bank::start(folder.path()).await.stop().await.success());
        for name in &FILES[created..] {
            remove(folder.path(), name);
        }
    }
    Bank::start(folder.path()).await;
}

/// Failure mode 74: more idle connections to one service than the process may have files open.
#[tokio::test]
async fn idle_connections_to_one_service_leave_the_rest_of_the_process_its_files() {
    const FILES: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start_with_files(&format!("-n {FILES}"), folder.path()).await;
    let crowd = join_all((0..FILES + 100).map(|_| TcpStream::connect(bank.account_address())));
    let idle = timeout(TURN_MAX, crowd).await.expect("those beyond the limit wait in the kernel");
    assert!(idle.iter().all(Result::is_ok));
    let ready = async |url: String| {
        let answer = ASK.get(url).timeout(PATIENCE).send().await;
        answer.map(|answer| answer.status().as_u16()).ok()
    };
    let of_another_service = timeout(TURN_MAX, ready(bank.balance_url("/readyz"))).await;
    assert_eq!(of_another_service.expect("its turn comes at once"), Some(200));
    drop(idle);
    assert_eq!(timeout(PATIENCE, ready(bank.account_url("/readyz"))).await.unwrap(), Some(200));
    assert!(bank.stop().await.success());
}

/// Goal: log lines that cannot be written are lost, and the bank goes on.
#[tokio::test]
async fn a_bank_whose_log_takes_nothing_goes_on() {
    for stderr in [full_disk(), closed_pipe()] {
        let folder = tempfile::tempdir().unwrap();
        let bank = Bank::start_logging_to(stderr, folder.path()).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let opening = http.post(bank.account_url("/accounts")).json(&serde_json::json!({ "owner": "Paulo" }));
        let account: String = opening.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
        // The view is built meanwhile, and whoever builds it logs every step.
        get(&bank.balance_url(&format!("/balance/{account}?min_version=1&wait_ms=30000"))).await;
        assert!(bank.stop().await.success());
    }
}

/// Goal: a failure has its exit code even if its text reaches nobody.
#[tokio::test]
async fn a_failure_that_cannot_be_told_keeps_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    for stderr in [full_disk(), closed_pipe()] {
        let mut second = bank_command();
        second.args(["--account-addr", "127.0.0.1:0", "--balance-addr", "127.0.0.1:0"]).env("BANK_DATA", folder.path());
        second.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).kill_on_drop(true);
        let ended = timeout(PATIENCE, second.status()).await.expect("it ends").unwrap();
        assert_eq!(ended.code(), Some(3), "{ended}");
    }
    assert!(bank.stop().await.success());
}

#[tokio::test]
async fn the_limit_on_open_files_is_raised_as_far_as_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start_with_files("-Sn 200", folder.path()).await;
    assert!(bank.files_max() > 200);
    assert!(bank.stop().await.success());
}

#[tokio::test]
async fn a_wrong_command_line_is_told_apart_from_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--partitions", "0"][..], &["serve", "--what"], &["import"], &["no-such-command"]] {
        let output = run(folder.path(), arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr_of(&output));
    }
    for arguments in [&["--help"][..], &["serve", "--help"], &["import", "--help"], &["--version"]] {
        assert!(run(folder.path(), arguments).await.status.success(), "{arguments:?}");
    }
}
