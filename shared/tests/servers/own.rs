//! Servers that a test starts itself: badly configured on purpose, or to be killed.

use std::env;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// A server is ready much sooner, unless the machine is very busy.
const READY_MAX: Duration = Duration::from_mins(1);

const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    Mongo,
    Nats,
    Redis,
}

impl Program {
    fn path(self) -> String {
        let variable = match self {
            Self::Mongo => "BANK_TEST_MONGOD",
            Self::Nats => "BANK_TEST_NATS_SERVER",
            Self::Redis => "BANK_TEST_REDIS_SERVER",
        };
        #[expect(clippy::disallowed_methods, reason = "a test is told where programs are by its environment alone")]
        env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run eval \"$(./scripts/servers programs)\""))
    }
}

/// A server of one test. It ends with its owner, and so do its files.
pub(crate) struct Own {
    program: Program,
    arguments: Vec<String>,
    port: u16,
    child: Child,
    folder: TempDir,
}

impl Own {
    /// Starts a server and waits until it listens. Its arguments are made of its folder and its port.
    pub(crate) async fn start(program: Program, arguments: impl FnOnce(&Path, u16) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a test");
        let port = free_port();
        let arguments = arguments(folder.path(), port);
        let child = launch(program, &arguments, folder.path());
        let mut own = Self { program, arguments, port, child, folder };
        own.ready().await;
        own
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a process of our own");
        self.child.wait().expect("a process of our own");
    }

    /// Starts it again on its files, and waits until it listens.
    pub(crate) async fn start_again(&mut self) {
        self.child = launch(self.program, &self.arguments, self.folder.path());
        self.ready().await;
    }

    async fn ready(&mut self) {
        let deadline = Instant::now() + READY_MAX;
        while TcpStream::connect(self.address()).await.is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait().expect("a process of our own") {
                panic!("{:?} ended with {status}:\n{}", self.program, log());
            }
            assert!(Instant::now() < deadline, "{:?} does not listen:\n{}", self.program, log());
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may have been killed before.
        if self.child.kill().is_ok() {
            self.child.wait().expect("a process of our own");
        }
    }
}

fn launch(program: Program, arguments: &[String], folder: &Path) -> Child {
    let log = || std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a file");
    let mut command = Command::new(program.path());
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(log()).stderr(log());
    command.spawn().unwrap_or_else(|error| panic!("{program:?} does not start: {error}"))
}

/// A port without a listener.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    listener.local_addr().expect("a bound port").port()
}

/// The words of a line; `""` is an empty one.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| if word == "\"\"" { "" } else { word }.to_owned()).collect()
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + READY_MAX;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        sleep(LOOK_EVERY).await;
    }
}

/// The arguments of a mongod with little memory, as a member of the set `rs0`.
pub(crate) fn mongod(folder: &Path, port: u16) -> Vec<String> {
    let folder = folder.display();
    words(&format!(
        "--dbpath {folder} --port {port} --bind_ip 127.0.0.1 --nounixsocket --wiredTigerCacheSizeGB 0.25 --setParameter \
         diagnosticDataCollectionEnabled=false --setParameter enableTestCommands=1"
    ))
}
