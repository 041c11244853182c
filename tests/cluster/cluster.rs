//! A whole bank of separate processes: two account services, two forwarders, three balance services, four real servers.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::alias;
use crate::customers::desks::Desks;
use crate::customers::{AGAIN_AFTER, PATIENCE, get};
use crate::root;
use crate::server::Server;
use crate::service::{Kind, Service, Variables};
use crate::tally::{Count, Tally};

/// How long leases live: short, so that a takeover takes little time in a test.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(1);

/// How long a process is frozen to become a zombie: when it wakes up, others hold its leases.
pub(crate) const ZOMBIE_PAUSE: Duration = Duration::from_millis(1_600);

/// How many partitions, unless a scenario wants another number: two for each balance service.
pub(crate) const PARTITIONS: usize = 6;

/// The setting of that number.
pub(crate) const PARTITIONS_SETTING: &str = "BANK_PARTITIONS";

/// How many lines of a log are shown when a scenario fails.
const TAIL_LINES: usize = 12;

/// How many replicas there are of each service.
const fn replicas(kind: Kind) -> usize {
    match kind {
        Kind::Account | Kind::Forwarder => 2,
        Kind::Balance => 3,
    }
}

/// A bank as a scenario wants it.
pub(crate) struct Plan {
    name: String,
    namespace: String,
    tally: Arc<Tally>,
    variables: Variables,
    /// Settings that differ for services of one kind.
    exceptions: Vec<(Kind, &'static str, String)>,
}

impl Plan {
    /// A bank under a name of its own, on the servers as they are.
    pub(crate) fn new(scenario: &str, tally: Arc<Tally>) -> Self {
        let mut variables = Variables::from([
            (PARTITIONS_SETTING, PARTITIONS.to_string()),
            ("BANK_LEASE_TTL_MS", LEASE_TTL.as_millis().to_string()),
            // Reconciling would heal, and so hide, a loss that the bank must not have in the first place.
            ("BANK_RECONCILE_SECS", "0".to_owned()),
            ("BANK_LOG", "info".to_owned()),
            ("BANK_LOG_FORMAT", "text".to_owned()),
        ]);
        variables.extend(Server::ALL.map(|server| (server.setting(), server.url())));
        // New names, even on servers that have seen many runs.
        let namespace = format!("c{:x}-{scenario}", now_millis() & 0xffff_ffff).replace('_', "-");
        let namespace: String = namespace.chars().take(NAMESPACE_MAX).collect();
        variables.insert("BANK_NAMESPACE", namespace.clone());
        Self { name: scenario.to_owned(), namespace, tally, variables, exceptions: Vec::new() }
    }

    /// The prefix of the names of everything the bank will have on servers.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The same bank with another setting of one kind of service.
    pub(crate) fn with_kind(mut self, kind: Kind, variable: &'static str, value: String) -> Self {
        self.exceptions.push((kind, variable, value));
        self
    }

    /// The same bank with another number of partitions.
    pub(crate) fn divided(self, partitions: usize) -> Self {
        self.with(PARTITIONS_SETTING, partitions.to_string())
    }

    /// The same bank with another setting.
    pub(crate) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.insert(variable, value.into());
        self
    }

    /// Starts every service, and waits until all are ready.
    pub(crate) async fn start(self) -> Cluster {
        let Self { name, namespace, tally, variables, exceptions } = self;
        let partitions = variables[PARTITIONS_SETTING].parse().expect("a number of partitions");
        let logs = logs_of(&name);
        fs::create_dir_all(&logs).expect("logs can be written");
        let services = Kind::ALL.into_iter().flat_map(|kind| {
            let (mut variables, logs) = (variables.clone(), logs.clone());
            let exceptions = exceptions.iter().filter(|(excepted, ..)| *excepted == kind);
            variables.extend(exceptions.map(|(_, variable, value)| (*variable, value.clone())));
            (1..=replicas(kind)).map(move |number| Service::new(kind, number, variables.clone(), &logs))
        });
        let mut cluster = Cluster { services: services.collect(), namespace, partitions, tally };
        for service in &mut cluster.services {
            service.start();
        }
        cluster.wait_ready().await;
        // The services are ready before the first view is built.
        get(&format!("{}/balance", cluster.views()[0])).await;
        cluster
    }
}

/// The longest namespace a bank takes.
const NAMESPACE_MAX: usize = 32;

/// A running bank.
pub(crate) struct Cluster {
    /// All services, grouped by kind.
    pub(crate) services: Vec<Service>,
    namespace: String,
    partitions: usize,
    tally: Arc<Tally>,
}

impl Cluster {
    /// What this scenario has done so far.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Waits until every service and all its dependencies answer.
    pub(crate) async fn wait_ready(&mut self) {
        for service in &mut self.services {
            service.wait_ready().await;
        }
    }

    /// The services of one kind.
    pub(crate) fn of(&mut self, kind: Kind) -> impl Iterator<Item = &mut Service> {
        self.services.iter_mut().filter(move |service| service.kind() == kind)
    }

    /// The prefix of the names of everything the bank has on servers.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How many partitions the bank has.
    pub(crate) const fn partitions(&self) -> usize {
        self.partitions
    }

    /// The stream of NATS that holds a partition.
    pub(crate) fn stream(&self, partition: usize) -> String {
        format!("{}-balance-{partition}", self.namespace)
    }

    /// Every service that is started from now on has this number of partitions.
    pub(crate) fn divide(&mut self, partitions: usize) {
        self.partitions = partitions;
        for service in &mut self.services {
            service.set(PARTITIONS_SETTING, partitions.to_string());
        }
    }

    /// Where commands are taken.
    pub(crate) fn desks(&self) -> Desks {
        Desks::new(self.urls(Kind::Account))
    }

    /// Where balances are shown.
    pub(crate) fn views(&self) -> Vec<String> {
        self.urls(Kind::Balance)
    }

    fn urls(&self, kind: Kind) -> Vec<String> {
        self.services.iter().filter(|service| service.kind() == kind).map(|service| service.url("")).collect()
    }

    /// The alias of its documents, as a user of Elasticsearch reads it; bypassing any proxy.
    pub(crate) fn alias_url(&self) -> String {
        format!("{}/{}-balance", Server::Elastic.url(), self.namespace)
    }

    /// `kill -9` of one service, and a new process in its place, which may not be ready yet.
    pub(crate) async fn kill_and_restart(&mut self, number: usize) {
        self.services[number].kill().await;
        self.tally.count(Count::ServiceKills);
        self.services[number].start();
    }

    /// Freezes services for longer than their leases live, and wakes them as zombies.
    pub(crate) async fn make_zombies(&mut self, numbers: &[usize]) {
        for &number in numbers {
            self.services[number].pause().await;
        }
        sleep(ZOMBIE_PAUSE).await;
        for &number in numbers {
            self.services[number].resume().await;
            self.tally.count(Count::Zombies);
        }
    }

    /// Stops one service gracefully.
    pub(crate) async fn stop_one(&mut self, number: usize) {
        self.services[number].stop().await;
        self.tally.count(Count::Stops);
    }

    /// Waits until the partitions are spread fairly over the running balance services; returns how long that took.
    pub(crate) async fn wait_fair(&self) -> Duration {
        let began = Instant::now();
        let views: Vec<&Service> =
            self.services.iter().filter(|service| service.kind() == Kind::Balance && service.is_started()).collect();
        let partitions = self.partitions;
        let fair = partitions / views.len()..=partitions.div_ceil(views.len());
        let spread = timeout(PATIENCE, async {
            loop {
                let held = join_all(views.iter().map(|view| view.partitions_held())).await;
                if held.iter().sum::<usize>() == partitions && held.iter().all(|held| fair.contains(held)) {
                    return;
                }
                sleep(AGAIN_AFTER).await;
            }
        });
        spread.await.expect("the partitions are spread fairly in time");
        began.elapsed()
    }

    /// `kill -9` of all services of a kind; nobody does their work until they are started again.
    pub(crate) async fn kill_all(&mut self, kind: Kind) {
        for service in self.services.iter_mut().filter(|service| service.kind() == kind) {
            service.kill().await;
            self.tally.count(Count::ServiceKills);
        }
    }

    /// Stops all services of a kind gracefully; nobody does their work until they are started again.
    pub(crate) async fn stop_all(&mut self, kind: Kind) {
        for service in self.services.iter_mut().filter(|service| service.kind() == kind) {
            service.stop().await;
            self.tally.count(Count::Stops);
        }
    }

    /// Starts all services of a kind; they may not be ready yet.
    pub(crate) fn start_all(&mut self, kind: Kind) {
        self.of(kind).for_each(Service::start);
    }

    /// Waits until the services of a kind have together logged this that often.
    pub(crate) async fn wait_said(&self, kind: Kind, what: &str, often: usize) {
        let of_kind = || self.services.iter().filter(|service| service.kind() == kind);
        let said = timeout(PATIENCE, async {
            while of_kind().map(|service| service.count_said(what)).sum::<usize>() < often {
                sleep(AGAIN_AFTER).await;
            }
        });
        said.await.unwrap_or_else(|_| panic!("no {} says {what:?} for the {often}. time", kind.program()));
    }

    /// Starts one more service with another setting, which it is expected to refuse. Returns its exit code and its
    /// output.
    pub(crate) async fn refusal(&self, kind: Kind, variable: &'static str, value: &str) -> (Option<i32>, String) {
        self.another(kind, variable, value).refuse().await
    }

    /// Starts one more service with another setting, and waits until its log holds this and `/readyz` lists this
    /// backend as not ready.
    pub(crate) async fn complaint(&self, kind: Kind, variable: &'static str, value: &str, said: &str, backend: &str) {
        self.another(kind, variable, value).complain(said, backend).await;
    }

    fn another(&self, kind: Kind, variable: &'static str, value: &str) -> Service {
        let like = self.services.iter().find(|service| service.kind() == kind).expect("there is one of each kind");
        like.another(variable, value)
    }

    /// Stops every service gracefully. Then removes from the servers what would be costly to leave there: Elasticsearch
    /// recovers every index at every start.
    pub(crate) async fn stop(mut self) {
        for service in &mut self.services {
            service.stop().await;
        }
        alias::delete(&self.alias_url()).await;
    }
}

/// The folder of a scenario's logs.
fn logs_of(scenario: &str) -> PathBuf {
    root().join("target/cluster-logs").join(scenario)
}

/// Removes the logs of an earlier run.
pub(crate) fn clear_logs(scenario: &str) {
    if let Err(failure) = fs::remove_dir_all(logs_of(scenario)) {
        assert_eq!(failure.kind(), std::io::ErrorKind::NotFound, "old logs of {scenario}: {failure}");
    }
}

/// The ends of the logs of a scenario.
pub(crate) fn tails(scenario: &str) -> String {
    let mut tails = String::new();
    let mut logs: Vec<_> = fs::read_dir(logs_of(scenario)).into_iter().flatten().flatten().collect();
    logs.sort_by_key(fs::DirEntry::path);
    for log in logs {
        let text = fs::read_to_string(log.path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        writeln!(tails, "--- the end of {}\n{tail}", log.path().display()).expect("a string takes everything");
    }
    tails
}

fn now_millis() -> u128 {
    #[expect(clippy::disallowed_methods, reason = "names on real servers differ from run to run")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}
