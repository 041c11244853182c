//! One service as a process of its own, which can be killed, frozen, stopped and started again on its port.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::customers::program::without_settings;
use crate::customers::{AGAIN_AFTER, ASK, PATIENCE};

/// Ports are taken from here on. The kernel gives no port below 32,768 to a client, so nothing takes the port of a
/// service while it is dead, not even a client that connects to it.
const FIRST_PORT: u16 = 21_000;

/// More replicas than a bank has of any kind: the number of a service that does not belong to it.
const REPLICAS_MAX: usize = 9;

static NEXT_PORT: AtomicU16 = AtomicU16::new(FIRST_PORT);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Account,
    Forwarder,
    Balance,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Account, Self::Forwarder, Self::Balance];

    /// The program's name.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Account => "account-service",
            Self::Forwarder => "forwarder",
            Self::Balance => "balance-service",
        }
    }

    /// The setting of the address it listens on.
    const fn address_variable(self) -> &'static str {
        match self {
            Self::Account => "BANK_ACCOUNT_ADDR",
            Self::Forwarder => "BANK_FORWARDER_ADDR",
            Self::Balance => "BANK_BALANCE_ADDR",
        }
    }

    /// The program, which must not be older than its sources: cargo builds the programs of other packages only on
    /// request.
    fn path(self) -> PathBuf {
        let program = program(self.program());
        let built = fs::metadata(&program).and_then(|data| data.modified());
        let sources = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
        let is_fresh = built.is_ok_and(|built| {
            let mut sources = sources.split_whitespace().skip(1);
            sources.all(|source| fs::metadata(source).and_then(|data| data.modified()).is_ok_and(|at| at <= built))
        });
        assert!(
            is_fresh && !sources.is_empty(),
            "{} is missing or older than its sources: cargo build --workspace --all-features",
            program.display()
        );
        program
    }
}

/// A program of the workspace: cargo puts them all into the folder above the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a program knows where it lies");
    test.ancestors().nth(2).expect("a test lies two folders deep").join(name)
}

/// The environment of a service.
pub(crate) type Variables = BTreeMap<&'static str, String>;

/// A service. Dropping it kills its process.
pub(crate) struct Service {
    kind: Kind,
    name: String,
    port: u16,
    program: PathBuf,
    variables: Variables,
    log: PathBuf,
    process: Option<Child>,
}

/// Its name, such as `balance-service-2`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Service {
    /// A service that does not run yet; its log goes into the folder.
    pub(crate) fn new(kind: Kind, number: usize, mut variables: Variables, logs: &Path) -> Self {
        let (name, port) = (format!("{}-{number}", kind.program()), free_port());
        variables.insert(kind.address_variable(), format!("127.0.0.1:{port}"));
        let log = logs.join(format!("{name}.log"));
        Self { kind, name, port, program: kind.path(), variables, log, process: None }
    }

    /// A service of the same kind with another setting; it does not run yet.
    pub(crate) fn another(&self, variable: &'static str, value: &str) -> Self {
        let mut variables = self.variables.clone();
        variables.insert(variable, value.to_owned());
        Self::new(self.kind, REPLICAS_MAX, variables, self.log.parent().expect("a log lies in a folder"))
    }

    /// Another program of the workspace, with the same settings.
    pub(crate) fn beside(&self, name: &str) -> Command {
        let mut command = without_settings(program(name));
        command.envs(&self.variables).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// From its next start on it has another setting.
    pub(crate) fn set(&mut self, variable: &'static str, value: String) {
        self.variables.insert(variable, value);
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Whether it was started and neither killed nor stopped since.
    pub(crate) fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// How many partitions a balance service says it holds; 0 if it does not answer.
    pub(crate) async fn partitions_held(&self) -> usize {
        let Ok(answer) = ASK.get(self.url("/metrics")).send().await else { return 0 };
        let metrics = answer.text().await.unwrap_or_default();
        let held = metrics.lines().find_map(|line| line.strip_prefix("bank_leases_held "));
        held.and_then(|held| held.trim().parse().ok()).unwrap_or(0)
    }

    /// Starts the process; it may not be ready yet.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{self} runs already");
        let log =
            || -> File { OpenOptions::new().create(true).append(true).open(&self.log).expect("a log can be written") };
        let mut command = without_settings(&self.program);
        command.envs(&self.variables).stdin(Stdio::null()).stdout(log()).stderr(log()).kill_on_drop(true);
        self.process = Some(command.spawn().expect("the program was built"));
    }

    /// Waits until it and all its dependencies answer, also those that it answers without: what a scenario does next
    /// may need them.
    pub(crate) async fn wait_ready(&mut self) {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.assert_alive();
            if self.lacks_nothing().await {
                return;
            }
            assert!(tokio::time::Instant::now() < give_up, "{self} is not ready in time");
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn lacks_nothing(&self) -> bool {
        let Ok(answer) = ASK.get(self.url("/readyz")).send().await else { return false };
        let is_ready = answer.status().is_success();
        answer.json().await.is_ok_and(|told: Value| is_ready && lacking(&told).is_empty())
    }

    /// Only scenarios end services.
    pub(crate) fn assert_alive(&mut self) {
        let ended = self.running().try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "{self} ended by itself: {ended:?}");
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.assert_alive();
        self.running().kill().await.expect("a child can be killed");
        self.process = None;
    }

    /// `kill -STOP`: it accepts connections and does nothing, until it is resumed.
    pub(crate) async fn pause(&mut self) {
        self.assert_alive();
        self.signal("STOP").await;
    }

    /// `kill -CONT`.
    pub(crate) async fn resume(&mut self) {
        self.signal("CONT").await;
    }

    /// How many lines of its log contain this.
    pub(crate) fn count_said(&self, what: &str) -> usize {
        let log = fs::read_to_string(&self.log).expect("a log can be read");
        log.lines().filter(|line| line.contains(what)).count()
    }

    /// Asks it to end, and waits until it has released everything.
    pub(crate) async fn stop(&mut self) {
        self.assert_alive();
        self.signal("TERM").await;
        let ended = timeout(PATIENCE, self.running().wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{self} does not end")).expect("its status is known");
        assert!(status.success(), "{self} ended in disorder: {status}");
        self.process = None;
    }

    /// Starts it, waits until it ends by itself, and returns its exit code and its output.
    pub(crate) async fn refuse(mut self) -> (Option<i32>, String) {
        let said_before = fs::read_to_string(&self.log).map_or(0, |said| said.len());
        self.start();
        let ended = timeout(PATIENCE, self.running().wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{self} does not end")).expect("its status is known");
        let said = fs::read_to_string(&self.log).expect("a log can be read");
        (status.code(), said[said_before..].to_owned())
    }

    /// Starts it, waits until its log holds this and it lists this backend as not ready, and kills it.
    pub(crate) async fn complain(mut self, said: &str, backend: &str) {
        self.start();
        let complained = timeout(PATIENCE, async {
            while self.count_said(said) == 0 || !self.lacks(backend).await {
                sleep(AGAIN_AFTER).await;
            }
        });
        complained.await.unwrap_or_else(|_| panic!("{self} does not say {said:?}, or is not without its {backend}"));
        self.kill().await;
    }

    async fn lacks(&self, backend: &str) -> bool {
        let Ok(answer) = ASK.get(self.url("/readyz")).send().await else { return false };
        answer.json().await.is_ok_and(|told: Value| lacking(&told).contains(&backend))
    }

    async fn signal(&mut self, signal: &str) {
        let pid = self.running().id().expect("the process was not waited for");
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().await;
        assert!(sent.expect("there is a shell").success(), "{self} could not be sent {signal}");
    }

    fn running(&mut self) -> &mut Child {
        let name = &self.name;
        self.process.as_mut().unwrap_or_else(|| panic!("{name} does not run"))
    }
}

/// The names of the dependencies that do not answer, from an answer of `/readyz`.
pub(crate) fn lacking(told: &Value) -> Vec<&str> {
    let dependencies = told["dependencies"].as_array().expect("every dependency is listed");
    let silent = dependencies.iter().filter(|dependency| dependency["ready"] != true);
    silent.filter_map(|dependency| dependency["name"].as_str()).collect()
}

fn free_port() -> u16 {
    loop {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
