//! The real servers under the bank, which a scenario may kill, freeze and start again.
//!
//! `./scripts/servers` starts them and knows their processes. A server not started by this script is not ours to kill,
//! nor to empty: the script refuses to kill it, and a run does not begin beside one, since some scenarios act on
//! servers without the script.

use std::env;
use std::net::SocketAddr;

use tokio::process::Command;
use tokio::time::timeout;

use crate::customers::PATIENCE;
use crate::root;

/// A server of the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Mongo,
    Nats,
    Redis,
    Elastic,
}

impl Server {
    pub(crate) const ALL: [Self; 4] = [Self::Mongo, Self::Nats, Self::Redis, Self::Elastic];

    /// As `scripts/servers` calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mongo => "mongo",
            Self::Nats => "nats",
            Self::Redis => "redis",
            Self::Elastic => "elastic",
        }
    }

    /// Where it listens. Without it the run fails: a skipped scenario would prove nothing and look green.
    pub(crate) fn url(self) -> String {
        let variable = format!("BANK_TEST_{}_URL", self.name().to_uppercase());
        #[expect(clippy::disallowed_methods, reason = "a test is told where servers are by its environment alone")]
        env::var(&variable).unwrap_or_else(|_| {
            panic!("{variable} is not set: run ./scripts/servers up, then eval \"$(./scripts/servers env)\"")
        })
    }

    /// The bank's setting for its URL.
    pub(crate) const fn setting(self) -> &'static str {
        match self {
            Self::Mongo => "BANK_STORE_URL",
            Self::Nats => "BANK_LOG_URL",
            Self::Redis => "BANK_LEASE_URL",
            Self::Elastic => "BANK_INDEX_URL",
        }
    }

    /// Host and port.
    pub(crate) fn address(self) -> String {
        let url = self.url();
        let behind = url.split_once("://").map_or(&*url, |(_, behind)| behind);
        behind.split(['/', '?']).next().unwrap_or_default().to_owned()
    }

    /// The URL of the same server at another address. A replica set announces its members' own addresses, unless the
    /// driver is told not to ask.
    pub(crate) fn url_at(self, address: SocketAddr) -> String {
        let url = self.url().replace(&self.address(), &address.to_string());
        match self {
            Self::Mongo => format!("{url}{}directConnection=true", if url.contains('?') { '&' } else { '?' }),
            Self::Nats | Self::Redis | Self::Elastic => url,
        }
    }

    /// The URL of MongoDB for services of this name, so that a fault hits them alone.
    pub(crate) fn url_for(self, application: &str) -> String {
        let url = self.url();
        format!("{url}{}appName={application}", if url.contains('?') { '&' } else { '?' })
    }

    /// What `./scripts/servers` says of those that are not processes it has started, or would start; empty if all are.
    pub(crate) async fn foreign() -> String {
        let mut status = Command::new(root().join("scripts/servers"));
        // Its exit code says only whether all of them run.
        let ended = timeout(PATIENCE, status.arg("status").kill_on_drop(true).output()).await;
        let output = ended.expect("servers are listed in time").expect("the script runs");
        let told = String::from_utf8_lossy(&output.stdout);
        let is_ours = |server: &Self| {
            let [runs, rests] = ["  runs, pid ", "  does not run"].map(|state| format!("{}{state}", server.name()));
            told.lines().any(|line| line.starts_with(&runs) || line == rests)
        };
        if Self::ALL.iter().all(is_ours) { String::new() } else { told.into_owned() }
    }

    /// `kill -9`.
    pub(crate) async fn kill(self) {
        self.order("kill").await;
    }

    /// `kill -9`, and its data is lost: it starts again empty.
    pub(crate) async fn wipe(self) {
        self.order("wipe").await;
    }

    /// `kill -STOP`: it accepts connections and answers nothing.
    pub(crate) async fn pause(self) {
        self.order("pause").await;
    }

    /// Starts it, on its data and its port, or wakes it, and waits until it answers.
    pub(crate) async fn up(self) {
        self.order("up").await;
    }

    async fn order(self, command: &str) {
        let script = root().join("scripts/servers");
        let mut order = Command::new(script);
        let ended = timeout(PATIENCE, order.args([command, self.name()]).kill_on_drop(true).output());
        let output = ended.await.expect("the order is carried out in time").expect("the script runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/servers {command} {}: {said}", self.name());
    }
}
