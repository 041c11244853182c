//! How the process starts and ends, as scripts and people see it.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::bank::{BANK, Bank};
use crate::customers::PATIENCE;

/// Runs a bank that must end by itself.
async fn run(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BANK);
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
