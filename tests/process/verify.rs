//! `bank verify` beside a bank that is open, and on the folder of one that is closed.

use std::path::Path;
use std::process::{Output, Stdio};

use balance_service::verify::{ACCOUNTS_MAX, PATIENCE_DEFAULT};
use bytes::Bytes;
use serde_json::Value;
use shared::clock::Clock;
use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent, codec};
use shared::id::{AccountId, Ids};
use shared::index::{Balance, BalanceIndex, EmbeddedIndex};
use shared::money::{Amount, Money};
use shared::sqlite::DataFolder;
use shared::store::{Appended, Commit, EmbeddedStore, EventStore, StreamWrite};
use tokio::process::Command;
use tokio::time::timeout;

use crate::bank::{Bank, REPORT_LOST, bank_command, closed_pipe, full_disk};
use crate::customers::{PATIENCE, get};

/// Few, so that a check of all of them is short to read.
const ACCOUNTS: usize = 20;

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = bank_command();
    command.arg("verify").args(arguments).env("BANK_DATA", data).env("BANK_LOG", "error");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn verify(data: &Path, arguments: &[&str]) -> Output {
    timeout(PATIENCE, command(data, arguments).output()).await.expect("it ends").unwrap()
}

/// The exit code and stderr of a check whose report goes there.
async fn verify_into(stdout: Stdio, data: &Path, arguments: &[&str]) -> (i32, String) {
    let check = command(data, arguments).stdout(stdout).spawn().unwrap();
    let output = timeout(PATIENCE, check.wait_with_output()).await.expect("it ends").unwrap();
    (output.status.code().unwrap(), stderr_of(&output))
}

fn stdout_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The output of `--json`, and the exit code.
async fn verify_json(data: &Path, arguments: &[&str]) -> (Value, i32) {
    let output = verify(data, &[&["--json"], arguments].concat()).await;
    let text = stdout_of(&output);
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", stderr_of(&output)));
    (json, output.status.code().unwrap())
}

async fn post(url: &str, body: Value) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.post(url).json(&body).send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

/// A bank that has a view, so that there is something to compare.
async fn with_view(data: &Path) -> Bank {
    let bank = Bank::start(data).await;
    get(&bank.balance_url("/balance")).await;
    bank
}

/// A bank with a view and some accounts.
async fn with_accounts(data: &Path) -> (Bank, Vec<String>) {
    let bank = with_view(data).await;
    let mut accounts = Vec::new();
    for money in 1..=ACCOUNTS {
        let body = serde_json::json!({ "owner": "Paulo", "money": money });
        accounts.push(post(&bank.account_url("/accounts"), body).await.as_str().unwrap().to_owned());
    }
    (bank, accounts)
}

/// A folder whose bank is closed and has projected these accounts.
async fn closed_with_accounts(data: &Path) -> Vec<String> {
    let (bank, accounts) = with_accounts(data).await;
    for account in &accounts {
        until_shown(&bank, account, 1).await;
    }
    assert!(bank.stop().await.success());
    accounts
}

/// Waits until the view has reached this version of an account.
async fn until_shown(bank: &Bank, account: &str, version: u64) {
    get(&bank.balance_url(&format!("/balance/{account}?min_version={version}&wait_ms=30000"))).await;
}

/// Goal: beside a bank on embedded backends the check must be requested from that bank, and the output says how.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_that_is_open_is_asked_to_compare_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (bank, _) = with_accounts(folder.path()).await;
    let refused = verify(folder.path(), &[]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", stderr_of(&refused));
    let lesson = "run bank verify --url with the address of the balance service of the bank that uses it";
    assert!(stderr_of(&refused).contains(lesson), "{}", stderr_of(&refused));

    let url = bank.balance_url("");
    let (report, code) = verify_json(folder.path(), &["--url", &url]).await;
    assert_eq!((code, &report["clean"], &report["found"]["checked"]), (0, &true.into(), &ACCOUNTS.into()), "{report}");
    assert_eq!(report["partitions"].as_array().unwrap().len(), 8);

    let (report, code) = verify_json(folder.path(), &["--url", &url, "--partition", "3", "--partition", "1"]).await;
    let partitions: Vec<&Value> = report["partitions"].as_array().unwrap().iter().map(|p| &p["partition"]).collect();
    assert_eq!((code, partitions), (0, vec![&Value::from(1), &Value::from(3)]));

    let account = bank.account_url("");
    let swapped = verify(folder.path(), &["--url", &account]).await;
    assert_eq!(swapped.status.code(), Some(2), "{}", stderr_of(&swapped));
    let told = format!("{account} is the account service; --url wants the balance service");
    assert!(stderr_of(&swapped).contains(&told), "{}", stderr_of(&swapped));

    let table = verify(folder.path(), &["--url", &url]).await;
    assert!(stdout_of(&table).ends_with("the projection agrees with the store\n"), "{}", stdout_of(&table));
    assert!(bank.stop().await.success());
}

/// Goal: no check, with repair or without, reports anything while a file is being imported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_raises_an_alarm_while_a_file_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let bank = with_view(folder.path()).await;
    // There is something to compare from the first check on.
    post(&bank.account_url("/accounts"), serde_json::json!({ "owner": "Paulo" })).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/branch-2024.csv");
    let mut import = bank_command();
    import.arg("import").arg(file).args(["--url", &bank.account_url(""), "--overdraft-limit", "10000"]);
    // One account at a time, so that it lasts longer than a check.
    import.args(["--parallel", "1"]);
    let mut import = import.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let url = bank.balance_url("");
    let kinds: [&[&str]; 2] = [&["--url", &url], &["--url", &url, "--repair"]];
    let mut checks = 0;
    let imported = loop {
        let (report, code) = verify_json(folder.path(), kinds[checks % kinds.len()]).await;
        assert_eq!((code, &report["repaired"]), (0, &0.into()), "{report}");
        checks += 1;
        if let Some(imported) = import.try_wait().unwrap() {
            break imported;
        }
    };
    assert!(imported.success() && checks > 1, "{checks} checks");
    assert!(bank.stop().await.success());
}

/// Writes a wrong balance and a document without an account, bypassing the bank, which is closed.
async fn damage(data: &Path, account: AccountId, orphan: AccountId) {
    let index = EmbeddedIndex::open(&DataFolder::open(data).unwrap()).unwrap();
    let generation = index.generations().await.unwrap().active.unwrap();
    let right = index.get(account).await.unwrap().unwrap();
    let wrong = Balance { balance: Money::new(1_000_000).unwrap(), ..right.clone() };
    let unknown = Balance { id: orphan, version: Version::new(1), ..right };
    index.repair(generation, vec![wrong, unknown]).await.unwrap();
    tokio::task::spawn_blocking(move || drop(index)).await.unwrap();
}

/// Goal: a difference has an exit code of its own, is named, and is repaired only on request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differences_are_named_and_repaired_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = closed_with_accounts(folder.path()).await;
    let (account, orphan) = (accounts[4].parse().unwrap(), AccountId::from_bytes([0x77; 16]));
    damage(folder.path(), account, orphan).await;

    let quick = ["--patience", "1"];
    let looked = verify(folder.path(), &quick).await;
    assert_eq!(looked.status.code(), Some(7), "{}{}", stdout_of(&looked), stderr_of(&looked));
    let text = stdout_of(&looked);
    assert!(text.contains(&format!("{account} diverged: balance is 1000000, the store says 5\n")), "{text}");
    assert!(text.contains(&format!("{orphan} orphan: there is a document and no event\n")), "{text}");
    assert!(text.contains("\n2 documents differ from the store; to repair all but 1, run again with"), "{text}");

    let (report, code) = verify_json(folder.path(), &["--patience", "1", "--repair"]).await;
    assert_eq!((code, &report["repaired"], &report["clean"]), (7, &1.into(), &false.into()), "{report}");
    assert_eq!((&report["left"]["diverged"], &report["left"]["orphans"]), (&0.into(), &1.into()), "{report}");

    // A bank that is opened again shows what was repaired.
    let bank = Bank::start(folder.path()).await;
    assert_eq!(get(&bank.balance_url(&format!("/balance/{account}"))).await["balance"], 5);
}

/// Goal: who doubts one balance has it compared and repaired alone, in a stopped bank and in one that is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_accounts_are_compared_and_repaired_and_one_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = closed_with_accounts(folder.path()).await;
    let (orphan, unknown) = (AccountId::from_bytes([0x77; 16]), AccountId::from_bytes([0x78; 16]).to_string());
    for account in &accounts[..2] {
        damage(folder.path(), account.parse().unwrap(), orphan).await;
    }
    let counts = |report: &Value| ["checked", "diverged"].map(|count| report["found"][count].as_u64().unwrap());
    let told = format!("no such account: {unknown}");

    let (report, code) = verify_json(folder.path(), &["--repair", "--account", &accounts[0], &accounts[2]]).await;
    assert_eq!((code, counts(&report), &report["repaired"]), (0, [2, 1], &1.into()), "{report}");
    let (report, code) = verify_json(folder.path(), &["--account", &accounts[1]]).await;
    assert_eq!((code, counts(&report)), (7, [1, 1]), "nobody asked for this one: {report}");
    let refused = verify(folder.path(), &["--account", &accounts[0], "--account", &unknown]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", stdout_of(&refused));
    assert!(stderr_of(&refused).contains(&told), "{}", stderr_of(&refused));

    let bank = with_view(folder.path()).await;
    let (url, doubted) = (bank.balance_url(""), &*accounts[1]);
    let there = ["--url", &*url, "--patience", "1"];
    let repair = ["--repair", "--account", doubted];
    let (report, code) = verify_json(folder.path(), &[&there[..], &repair[..]].concat()).await;
    assert_eq!((code, counts(&report), &report["repaired"]), (0, [1, 1], &1.into()), "{report}");
    assert_eq!(get(&bank.balance_url(&format!("/balance/{doubted}"))).await["balance"], 2);
    let refused = verify(folder.path(), &[&there[..], &["--account", &*unknown][..]].concat()).await;
    assert_eq!(refused.status.code(), Some(1), "{}", stdout_of(&refused));
    assert!(stderr_of(&refused).contains(&told), "{}", stderr_of(&refused));
    assert!(bank.stop().await.success());
}

/// Writes a deposit to an account that was just opened, bypassing the bank, which is closed: nobody projects it.
async fn deposit(data: &Path, account: AccountId) {
    let store = EmbeddedStore::open(&DataFolder::open(data).unwrap()).unwrap();
    let clock = Clock::system();
    let (ids, time) = (Ids::new(clock.clone()), clock.now());
    let event = AccountEvent::MoneyDeposited { transaction: ids.commit(), amount: Amount::new(1).unwrap() };
    let events = codec::encode(&[NewEvent { id: ids.event(), time, event }]);
    let write = StreamWrite { stream: account, expected: Version::new(1), events };
    let commit = Commit { id: ids.commit(), time, key: None, receipt: Bytes::new(), writes: vec![write] };
    let answers = store.append(vec![commit]).await;
    assert!(matches!(answers[..], [Ok(Appended::New)]), "{answers:?}");
    tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
}

/// Goal: nothing is waited for where nothing can come, and the bank keeps the promise that it catches up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lags_in_a_stopped_bank_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = closed_with_accounts(folder.path()).await;
    deposit(folder.path(), accounts[4].parse().unwrap()).await;

    // Half as long as a difference would be waited for.
    let looked = timeout(PATIENCE_DEFAULT / 2, command(folder.path(), &[]).output()).await.expect("at once").unwrap();
    let text = stdout_of(&looked);
    assert_eq!(looked.status.code(), Some(8), "{text}{}", stderr_of(&looked));
    assert!(text.contains(&format!("{} behind: the document is at v1, the store was at v2\n", accounts[4])), "{text}");
    assert!(
        text.ends_with("\n1 document lags behind the store: the bank is stopped, and will catch up when it runs\n"),
        "{text}"
    );

    let bank = Bank::start(folder.path()).await;
    until_shown(&bank, &accounts[4], 2).await;
    assert!(bank.stop().await.success());
    assert_eq!(verify(folder.path(), &[]).await.status.code(), Some(0));
}

/// Goal: a document that is wrong is not taken for one that only lags.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lags_in_a_stopped_bank_and_is_wrong_is_told_as_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = closed_with_accounts(folder.path()).await;
    damage(folder.path(), accounts[4].parse().unwrap(), AccountId::from_bytes([0x77; 16])).await;
    deposit(folder.path(), accounts[4].parse().unwrap()).await;
    let (report, code) = verify_json(folder.path(), &[]).await;
    let [diverged, behind] = ["diverged", "behind"].map(|fault| &report["found"][fault]);
    assert_eq!((code, diverged, behind), (7, &1.into(), &0.into()), "{report}");
}

/// Goal: what is missing is told; an empty file in its place would have nothing to compare.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_a_stopped_bank_lacks_is_told_and_not_created() {
    let folder = tempfile::tempdir().unwrap();
    closed_with_accounts(folder.path()).await;
    for name in ["index.db", "leases.db", "log.db"] {
        let (file, aside) = (folder.path().join(name), folder.path().join("aside"));
        std::fs::rename(&file, &aside).unwrap();
        for arguments in [&["--repair"][..], &[]] {
            let output = verify(folder.path(), arguments).await;
            assert_eq!(output.status.code(), Some(1), "{name}: {}", stdout_of(&output));
            let told = format!("{} is missing, and was not created: start the bank", file.display());
            assert!(stderr_of(&output).contains(&told), "{}", stderr_of(&output));
            assert!(!file.exists(), "{arguments:?} created {name}");
        }
        std::fs::rename(&aside, &file).unwrap();
    }
    assert_eq!(verify(folder.path(), &[]).await.status.code(), Some(0));
}

/// Goal: a report that cannot be written is told as a failure, but hides no difference; one that nobody reads is no
/// failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_lost_leaves_the_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = closed_with_accounts(folder.path()).await;
    let lost = REPORT_LOST.to_owned();
    for format in [&["--patience", "1"][..], &["--patience", "1", "--json"]] {
        assert_eq!(verify_into(full_disk(), folder.path(), format).await, (1, lost.clone()));
        assert_eq!(verify_into(closed_pipe(), folder.path(), format).await, (0, String::new()));
    }
    damage(folder.path(), accounts[4].parse().unwrap(), AccountId::from_bytes([0x77; 16])).await;
    let quick = ["--patience", "1"];
    assert_eq!(verify_into(full_disk(), folder.path(), &quick).await, (7, lost));
    assert_eq!(verify_into(closed_pipe(), folder.path(), &quick).await, (7, String::new()));
}

#[tokio::test]
async fn what_cannot_be_compared_is_told_apart_by_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let ids = (0_u128..).map(|number| AccountId::from_bytes(number.to_be_bytes()).to_string());
    let ids: Vec<String> = ids.take(ACCOUNTS_MAX + 1).collect();
    let too_many: Vec<&str> = ["--account"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    for (arguments, code, lesson) in [
        (&["--partition", "9"][..], 2, "there is no partition 9, only 1 to 8"),
        (&["--partition", "0"], 2, "1..=1024"),
        (&["--account", "7"], 2, "invalid value '7' for '--account"),
        (&["--account", &ids[0], "--partition", "1"], 2, "cannot be used with"),
        (&too_many, 2, "--account must name 1 to 100 accounts, not 101"),
        (&["--patience", "0"], 2, "1..=3600"),
        (&["--url", "ftp://bank"], 2, "http://host:port"),
        (&["--url", "http://127.0.0.1:9"], 1, "no balance service answers at http://127.0.0.1:9"),
        (&[], 1, "there is no bank in "),
    ] {
        let output = verify(folder.path(), arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr_of(&output));
        assert!(stderr_of(&output).contains(lesson), "{arguments:?}: {}", stderr_of(&output));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a bank was made");
    EmbeddedStore::open(&DataFolder::open(folder.path()).unwrap()).unwrap();
    let output = verify(folder.path(), &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("index.db is missing, and was not created"), "{}", stderr_of(&output));
    let help = verify(folder.path(), &["--help"]).await;
    assert!(stdout_of(&help).contains("7  verify: documents differ"), "{}", stdout_of(&help));
}
