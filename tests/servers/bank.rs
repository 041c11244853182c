//! A `bank` process on servers, in a namespace of its own.

use std::process::{Output, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use shared::clock::Clock;
use shared::config::Namespace;
use shared::id::Ids;
use shared::index::{ElasticIndex, ElasticOptions};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::program::without_settings;

/// How long anything may take before the test fails instead of hanging; far beyond what a slow machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The settings for the URLs of a bank's servers, and the variables that give these URLs to the tests.
const SERVERS: [(&str, &str); 4] = [
    ("BANK_STORE_URL", "BANK_TEST_MONGO_URL"),
    ("BANK_LOG_URL", "BANK_TEST_NATS_URL"),
    ("BANK_LEASE_URL", "BANK_TEST_REDIS_URL"),
    ("BANK_INDEX_URL", "BANK_TEST_ELASTIC_URL"),
];

/// A running bank. Dropping it kills it.
pub(crate) struct Bank {
    pub(crate) namespace: Namespace,
    pub(crate) http: Client,
    _process: Child,
    /// Kept open: a process that writes into a closed pipe fails.
    _stdout: Lines<BufReader<ChildStdout>>,
    account_address: String,
    balance_address: String,
}

impl Bank {
    /// Starts a bank and waits until it has a view.
    pub(crate) async fn start() -> Self {
        let namespace = new_namespace();
        let free = ["--account-addr", "127.0.0.1:0", "--balance-addr", "127.0.0.1:0"];
        let mut command = command(&namespace);
        let mut process = command.arg("serve").args(free).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let addresses = timeout(PATIENCE, async {
            let mut addresses = Vec::new();
            while addresses.len() < 2 {
                let line = lines.next_line().await.unwrap().expect("the bank starts");
                let behind = line.split("http://").nth(1).unwrap_or_default();
                addresses.extend(behind.split_whitespace().next().map(str::to_owned));
            }
            addresses
        });
        let [account_address, balance_address] = addresses.await.unwrap().try_into().unwrap();
        let http = http();
        let bank = Self { namespace, http, _process: process, _stdout: lines, account_address, balance_address };
        timeout(PATIENCE, async {
            while bank.get("/balance").await.0 != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("the bank has a view in time");
        bank
    }

    /// Runs `bank verify` as a process beside this one; returns its report and its exit code.
    pub(crate) async fn verify(&self, arguments: &[&str]) -> (Value, i32) {
        let mut command = command(&self.namespace);
        command.args(["verify", "--json"]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output: Output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        let report = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        (report, output.status.code().unwrap())
    }

    /// Sends a command to the account service; returns the body of the answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("http://{}{path}", self.account_address)).json(body);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// Asks the balance service.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.http.get(format!("http://{}{path}", self.balance_address)).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// The index, bypassing the bank.
    pub(crate) fn index(&self) -> ElasticIndex {
        ElasticIndex::new(&url("BANK_TEST_ELASTIC_URL"), &self.namespace, &ElasticOptions::default()).unwrap()
    }

    /// Asks Elasticsearch as a user's `curl` does.
    pub(crate) async fn elastic(&self, method: Method, path: &str) -> Value {
        let url = format!("{}/{path}", url("BANK_TEST_ELASTIC_URL").trim_end_matches('/'));
        self.http.request(method, url).send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }
}

/// Asks services and servers of this machine.
pub(crate) fn http() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// A namespace that nothing else uses.
pub(crate) fn new_namespace() -> Namespace {
    let tail = Ids::new(Clock::system()).account().uuid().simple().to_string();
    format!("t{}", &tail[8..]).parse().expect("a letter and digits")
}

/// The program on the servers of these tests.
pub(crate) fn command(namespace: &Namespace) -> Command {
    let mut command = without_settings(env!("CARGO_BIN_EXE_bank"));
    for (setting, variable) in SERVERS {
        command.env(setting, url(variable));
    }
    command.env("BANK_NAMESPACE", namespace.as_str()).env("BANK_PARTITIONS", "2").env("BANK_LOG", "error");
    // Lost documents are left to the verifier.
    command.env("BANK_RECONCILE_SECS", "0").stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) fn url(variable: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test is told where servers are by its environment alone")]
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run ./scripts/servers up, then eval \"$(./scripts/servers env)\"")
    })
}
