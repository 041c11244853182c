//! A `bank` process on a folder of its own and on free ports.

use std::env;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::customers::PATIENCE;
use crate::customers::program::without_settings;

/// The program under test.
pub(crate) const BANK: &str = env!("CARGO_BIN_EXE_bank");

/// The program under test with nothing but the settings that a test adds.
pub(crate) fn bank_command() -> Command {
    without_settings(BANK)
}

/// A free port of this machine.
const ANYWHERE: &str = "127.0.0.1:0";

/// What a command says whose stdout is a [`full_disk`].
pub(crate) const REPORT_LOST: &str = "bank: cannot write the report to stdout: No space left on device (os error 28)\n";

/// A file that takes nothing, like one on a full disk.
pub(crate) fn full_disk() -> Stdio {
    File::options().write(true).open("/dev/full").expect("Linux").into()
}

/// A pipe whose reader has gone away.
pub(crate) fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().expect("there are files left");
    drop(reader);
    writer.into()
}

/// A running bank. Dropping it kills it.
pub(crate) struct Bank {
    process: Child,
    /// Kept open: a process that writes into a closed pipe fails.
    _stdout: Lines<BufReader<ChildStdout>>,
    data: PathBuf,
    account_address: String,
    balance_address: String,
}

impl Bank {
    /// Starts a bank on a folder and waits until it says where it listens.
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_as(bank_command(), data, ANYWHERE, ANYWHERE).await
    }

    /// The same, after the shell has set a limit on its open files: arguments of `ulimit`.
    pub(crate) async fn start_with_files(limit: &str, data: &Path) -> Self {
        let mut shell = without_settings("sh");
        shell.args(["-c", &format!("ulimit {limit} && exec \"$0\""), BANK]);
        Self::start_as(shell, data, ANYWHERE, ANYWHERE).await
    }

    /// The same, where a write that [`Bank::limit_files_to`] forbids fails, instead of ending the process.
    pub(crate) async fn start_with_files_of_any_size(data: &Path) -> Self {
        let mut shell = without_settings("sh");
        shell.args(["-c", "trap '' XFSZ && exec \"$0\"", BANK]);
        Self::start_as(shell, data, ANYWHERE, ANYWHERE).await
    }

    /// Limits the bytes of any file the process writes to, from now on.
    pub(crate) fn limit_files_to(&self, bytes: u64) {
        let pid = self.process.id().expect("the process runs").try_into().expect("Linux");
        let limit = (bytes, rlimit::INFINITY);
        rlimit::prlimit(pid, rlimit::Resource::FSIZE, Some(limit), None).expect("the process is ours");
    }

    /// The same, with more to log than usual, and a stderr of its own.
    pub(crate) async fn start_logging_to(stderr: Stdio, data: &Path) -> Self {
        let mut program = bank_command();
        program.args(["--log", "info"]).stderr(stderr);
        Self::start_as(program, data, ANYWHERE, ANYWHERE).await
    }

    async fn start_as(mut program: Command, data: &Path, account_address: &str, balance_address: &str) -> Self {
        let mut process = program
            .env("BANK_DATA", data)
            .env("BANK_ACCOUNT_ADDR", account_address)
            .env("BANK_BALANCE_ADDR", balance_address)
            .env("BANK_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program was built with this test");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let addresses = timeout(PATIENCE, async {
            let mut addresses = Vec::new();
            while addresses.len() < 2 {
                let line = lines.next_line().await.expect("stdout is text").expect("the bank starts");
                let behind = line.split("http://").nth(1).unwrap_or_default();
                addresses.extend(behind.split_whitespace().next().map(str::to_owned));
            }
            addresses
        });
        let addresses = addresses.await.expect("the bank starts in time");
        let [account_address, balance_address] = addresses.try_into().expect("there are two");
        Self { process, _stdout: lines, data: data.to_owned(), account_address, balance_address }
    }

    /// `kill -9`, and a new process on the same folder and ports.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.process.kill().await.expect("the process can be killed");
        *self = Self::start_as(bank_command(), &self.data, &self.account_address, &self.balance_address).await;
    }

    /// Asks the process to end, and waits for it.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        let pid = self.process.id().expect("the process runs");
        let asked = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await;
        assert!(asked.expect("there is a shell").success());
        timeout(PATIENCE, self.process.wait()).await.expect("the bank ends in time").expect("its status is known")
    }

    /// How many files the process may have open, as the kernel says.
    pub(crate) fn files_max(&self) -> u64 {
        let pid = self.process.id().expect("the process runs");
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("Linux");
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit on files");
        files.split_whitespace().next().expect("the soft limit").parse().expect("a number")
    }

    /// Where the account service listens.
    pub(crate) fn account_address(&self) -> &str {
        &self.account_address
    }

    /// A URL of the account service.
    pub(crate) fn account_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.account_address)
    }

    /// A URL of the balance service.
    pub(crate) fn balance_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.balance_address)
    }
}

/// Runs itself as a process of its own, with a setting in its environment.
#[test]
fn no_setting_of_the_shell_reaches_the_bank_under_test() {
    const ITSELF: &str = "bank::no_setting_of_the_shell_reaches_the_bank_under_test";
    const PLANTED: (&str, &str) = ("BANK_STORE_URL", "planted:");
    if env::var_os(PLANTED.0).is_some_and(|value| value == PLANTED.1) {
        let command = bank_command();
        assert!(command.as_std().get_envs().any(|(name, value)| name == PLANTED.0 && value.is_none()), "{command:?}");
        return;
    }
    let mut itself = std::process::Command::new(env::current_exe().unwrap());
    let ended = itself.args(["--exact", ITSELF]).env(PLANTED.0, PLANTED.1).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && told.contains("1 passed"), "{}: {told}", ended.status);
}
