//! `bank import` against a real bank: every balance, in both services, is what the file adds up to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::bank::{Bank, REPORT_LOST, bank_command, closed_pipe, full_disk};
use crate::customers::{AGAIN_AFTER, PATIENCE, get};

/// A little more than the accounts of the file go below zero for a while.
const OVERDRAFT_LIMIT: &str = "10000";

fn data_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/branch-2024.csv")
}

fn import(bank: &Bank, file: &Path, arguments: &[&str]) -> Command {
    let mut command = bank_command();
    command.arg("import").arg(file).args(["--url", &bank.account_url("")]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn text_of(output: &Output) -> String {
    [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat()
}

/// How many lines each account of the file has, and their sum; read without any code of the product.
fn expected() -> BTreeMap<String, (u64, i64)> {
    let text = std::fs::read_to_string(data_file()).unwrap();
    let mut accounts = BTreeMap::new();
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split(',').collect();
        let amount: i64 = columns[5].parse().unwrap();
        let (lines, sum) = accounts.entry(format!("account {}", columns[1])).or_insert((0, 0));
        *lines += 1;
        *sum += if columns[3] == "credit" { amount } else { -amount };
    }
    accounts
}

/// Waits until the projection lists this many accounts, and returns what it lists.
async fn listed(bank: &Bank, count: usize) -> Vec<Value> {
    let url = bank.balance_url("/balance?limit=1000");
    let listed = timeout(PATIENCE, async {
        loop {
            let Value::Array(listed) = get(&url).await else { panic!("{url} is no list") };
            if listed.len() >= count {
                return listed;
            }
            sleep(AGAIN_AFTER).await;
        }
    });
    listed.await.unwrap_or_else(|_| panic!("{count} accounts are not listed in time"))
}

/// Asserts that both services hold each account of the file once, with all its lines and nothing else.
async fn assert_imported(bank: &Bank) {
    let expected = expected();
    let mut found = BTreeMap::new();
    // The list shows what the projection has so far: wait until every account is there, then for its version.
    for account in listed(bank, expected.len()).await {
        let id = account["id"].as_str().unwrap();
        let stored = get(&bank.account_url(&format!("/accounts/{id}"))).await;
        let url = format!("/balance/{id}?min_version={}&wait_ms=30000", stored["version"]);
        let shown = get(&bank.balance_url(&url)).await;
        assert_eq!((&shown["balance"], &shown["version"]), (&stored["balance"], &stored["version"]), "{id}");
        let owner = stored["owner"].as_str().unwrap().to_owned();
        // The first event opened the account.
        let content = (stored["version"].as_u64().unwrap() - 1, stored["balance"].as_i64().unwrap());
        assert_eq!(found.insert(owner, content), None, "an account of the file was opened twice");
    }
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_file_is_there_to_the_cent_and_a_second_import_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let options = ["--overdraft-limit", OVERDRAFT_LIMIT];

    let first = import(&bank, &data_file(), &options).output().await.unwrap();
    assert!(first.status.success(), "{}", text_of(&first));
    assert!(text_of(&first).contains("23 opened") && text_of(&first).contains("420 posted"), "{}", text_of(&first));
    assert_imported(&bank).await;

    let second = import(&bank, &data_file(), &options).output().await.unwrap();
    assert!(second.status.success(), "{}", text_of(&second));
    assert!(text_of(&second).contains("420 already there"), "{}", text_of(&second));
    assert!(text_of(&second).contains("balances      all as in the file"), "{}", text_of(&second));
    assert_imported(&bank).await;

    let other = import(&bank, &data_file(), &["--overdraft-limit", "5"]).output().await.unwrap();
    assert_eq!(other.status.code(), Some(1), "{}", text_of(&other));
    assert!(text_of(&other).contains("another overdraft limit"), "{}", text_of(&other));
}

/// Goal: an import is done even if its report cannot be written, which is told in one sentence; a closed pipe is no
/// failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_whose_report_is_lost_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    for (stdout, code, told) in [(full_disk(), 1, REPORT_LOST), (closed_pipe(), 0, "")] {
        let mut import = import(&bank, &data_file(), &["--overdraft-limit", OVERDRAFT_LIMIT]);
        let running = import.stdout(stdout).spawn().unwrap();
        let output = timeout(PATIENCE, running.wait_with_output()).await.expect("it ends").unwrap();
        assert_eq!((output.status.code(), &*text_of(&output)), (Some(code), told));
        assert_imported(&bank).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_outlives_kills_of_the_bank() {
    let folder = tempfile::tempdir().unwrap();
    let mut bank = Bank::start(folder.path()).await;
    // One account at a time, so that the kills hit it at work.
    let options = ["--overdraft-limit", OVERDRAFT_LIMIT, "--parallel", "1"];
    let running = import(&bank, &data_file(), &options).spawn().unwrap();
    for accounts in [1, 3, 6] {
        listed(&bank, accounts).await;
        bank.kill_and_restart().await;
    }
    let output = timeout(PATIENCE, running.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    assert_imported(&bank).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_files_but_the_store_are_made_again_when_they_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let output = import(&bank, &data_file(), &["--overdraft-limit", OVERDRAFT_LIMIT]).output().await.unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    assert!(bank.stop().await.success());
    for file in ["log.db", "index.db", "leases.db"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    assert_imported(&Bank::start(folder.path()).await).await;
}

/// Writes a file of these lines, each with its id, account, direction and amount, into a folder of its own.
fn file_of(folder: &Path, month: &str, lines: &[(u32, u32, &str, u32)]) -> PathBuf {
    let file = folder.join(month).join("transactions.csv");
    std::fs::create_dir(folder.join(month)).unwrap();
    let mut rows = vec!["transaction_id,account_id,date,direction,kind,amount_cents".to_owned()];
    rows.extend(
        lines
            .iter()
            .map(|(id, account, direction, amount)| format!("{id},{account},2024-01-01,{direction},cash,{amount}")),
    );
    std::fs::write(&file, rows.join("\n")).unwrap();
    file
}

/// Goal: files of one name continue the accounts of each other, and no right balance is reported as wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_file_is_compared_with_what_its_accounts_held_before() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(&folder.path().join("data")).await;
    let may = file_of(folder.path(), "may", &[(1, 7, "credit", 100)]);
    let june = file_of(folder.path(), "june", &[(2, 7, "credit", 50), (3, 7, "debit", 30), (4, 8, "credit", 5)]);
    for (file, told) in [
        (&may, &["1 opened, 0 already there", "sum           100 cents", "all as in the file"][..]),
        (&june, &["1 opened, 1 already there", "sum           125 cents", "all as in the file"]),
        // Account 7 holds more than either file has; account 8 holds nothing else.
        (&june, &["3 already there", "balances      1 as in the file, 1 not compared", "  account 7 ("]),
        (&may, &["1 already there", "balances      0 as in the file, 1 not compared", "  account 7 ("]),
    ] {
        let output = import(&bank, file, &[]).output().await.unwrap();
        let text = text_of(&output);
        assert!(output.status.success() && told.iter().all(|told| text.contains(told)), "{told:?}: {text}");
    }
}

/// Goal: whoever gives a line the id of another one learns that it will never be posted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_whose_id_was_used_by_another_file_of_the_name_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(&folder.path().join("data")).await;
    let may = file_of(folder.path(), "may", &[(1, 7, "credit", 100)]);
    let june = file_of(folder.path(), "june", &[(1, 7, "credit", 50), (2, 7, "credit", 5)]);
    assert!(import(&bank, &may, &[]).output().await.unwrap().status.success());
    let output = import(&bank, &june, &[]).output().await.unwrap();
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("lines rejected as idempotency_key_reused are never posted"), "{text}");
    assert!(!text.contains("may then be posted"), "{text}");
    assert!(text.contains("balances      all as in the accepted lines"), "{text}");

    let other = import(&bank, &june, &["--name", "june"]).output().await.unwrap();
    assert!(other.status.success() && text_of(&other).contains("2 posted"), "{}", text_of(&other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_lines_are_listed_and_the_rest_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(&folder.path().join("data")).await;
    let file = file_of(folder.path(), "may", &[(1, 7, "credit", 100), (2, 7, "debit", 101)]);
    let output = import(&bank, &file, &[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text_of(&output));
    assert!(
        text_of(&output).contains("rejected as insufficient_funds: 1\n  line 3, transaction 2: "),
        "{}",
        text_of(&output)
    );
    assert!(text_of(&output).contains("balances      all as in the accepted lines"), "{}", text_of(&output));
}

#[tokio::test]
async fn what_is_not_read_of_a_file_is_told() {
    let help = bank_command().args(["import", "--help"]).output().await.unwrap();
    let text = text_of(&help).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("date and kind are not read"), "{text}");
}

#[tokio::test]
async fn a_wrong_address_is_told_at_once() {
    let mut import = bank_command();
    import.arg("import").arg(data_file()).args(["--url", "http://127.0.0.1:9"]).kill_on_drop(true);
    // Half as long as the import would wait for a bank that exists.
    let output = timeout(Duration::from_secs(30), import.output()).await.expect("it gives up").unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text_of(&output));
    assert!(text_of(&output).contains("nothing answers at http://127.0.0.1:9 ("), "{}", text_of(&output));
    assert!(text_of(&output).contains("is the bank running?"), "{}", text_of(&output));
}

#[tokio::test]
async fn the_address_of_the_balance_service_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let url = bank.balance_url("");
    let output = bank_command().arg("import").arg(data_file()).args(["--url", &url]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
    let told = format!("{url} is the balance service; --url wants the account service");
    assert!(text_of(&output).contains(&told), "{}", text_of(&output));
}

#[tokio::test]
async fn a_currency_that_does_not_exist_is_told_before_anything_is_read() {
    for currency in ["FOO", "eur", "euro", ""] {
        let import = ["import", "no-such-file.csv", "--currency", currency];
        let output = bank_command().args(import).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{currency}: {}", text_of(&output));
        assert!(text_of(&output).contains("--currency <CODE>"), "{}", text_of(&output));
    }
}

#[tokio::test]
async fn a_bad_file_is_refused_with_its_line_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.csv");
    std::fs::write(&file, "transaction_id,account_id,date,direction,kind,amount_cents\n1,7,x,credit,cash,1.5\n")
        .unwrap();
    // Nothing listens there, so an import that sent something would fail differently.
    let output = bank_command().arg("import").arg(&file).args(["--url", "http://127.0.0.1:9"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(text_of(&output).contains("line 2: amount_cents must be a whole number of cents"), "{}", text_of(&output));
}
