use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use balance_service::rebuild::{JobState, Rebuilds};
use balance_service::verify::{verification_patience, verify};
use balance_service::{BalanceConfig, Nudge, RightOfWay, Visibility, project};
use forwarder::ForwarderConfig;
use reqwest::Method;
use serde_json::Value;
use shared::backends::Ports;
use shared::clock::{Clock, Timestamp};
use shared::config::Namespace;
use shared::coordinate::Version;
use shared::event::{AccountEvent, NewEvent, Personal, codec};
use shared::id::{AccountId, CommitId, Ids};
use shared::index::{BalanceIndex, ElasticIndex, ElasticOptions, QueryError};
use shared::lease::{EmbeddedLeases, Holder};
use shared::log::EmbeddedLog;
use shared::money::{Amount, Money};
use shared::owner::Owner;
use shared::partition::PartitionMap;
use shared::sqlite::DataFolder;
use shared::store::{Commit, EmbeddedStore, EventStore, StreamWrite};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_mins(2);

const LEASE_TTL: Duration = Duration::from_millis(600);

type Backends = Ports<EmbeddedStore, EmbeddedLog, EmbeddedLeases, ElasticIndex>;

/// A bank whose projection is in Elasticsearch, under names of its own.
pub(crate) struct Bank {
    pub(crate) ports: Backends,
    pub(crate) alias: String,
    pub(crate) accounts: Vec<AccountId>,
    rebuilds: Rebuilds<Backends>,
    partitions: PartitionMap,
    clock: Clock,
    ids: Ids,
    nudge: Nudge,
    tasks: JoinSet<()>,
    /// How many events every stream has.
    events: AtomicU64,
    _folder: TempDir,
}

impl Bank {
    /// A bank with some accounts, whose services do not run yet.
    pub(crate) async fn closed() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temporary.path()).unwrap();
        let (clock, partitions) = (Clock::system(), PartitionMap::new(2).unwrap());
        let ids = Ids::new(clock.clone());
        let tail = ids.account().uuid().simple().to_string();
        let namespace: Namespace = format!("b{}", &tail[8..]).parse().unwrap();
        let ports = Ports {
            store: EmbeddedStore::open(&folder).unwrap(),
            log: EmbeddedLog::open(&folder, partitions, clock.clone(), ids.clone()).await.unwrap(),
            leases: EmbeddedLeases::open(&folder).unwrap(),
            index: ElasticIndex::new(&url(), &namespace, &ElasticOptions::default()).unwrap(),
        };
        let nudge = Nudge::default();
        let rebuilds = Rebuilds::new(ports.clone(), partitions, clock.clone(), ids.clone(), nudge.clone());
        let (accounts, alias) = ((0..20).map(|_| ids.account()).collect(), namespace.balance_alias());
        let (tasks, events) = (JoinSet::new(), AtomicU64::new(0));
        Self { ports, alias, accounts, rebuilds, partitions, clock, ids, nudge, tasks, events, _folder: temporary }
    }

    /// A bank that is open, with its view.
    pub(crate) async fn open() -> Self {
        let mut bank = Self::closed().await;
        bank.append().await;
        bank.start();
        bank.wait_until_settled().await;
        bank
    }

    pub(crate) fn start(&mut self) {
        let lease_ttl = LEASE_TTL;
        let config = ForwarderConfig {
            holder: Holder(self.ids.commit().to_string().into()),
            partitions: self.partitions,
            lease_ttl,
            log_window: Duration::from_hours(1),
            trim_every: Duration::from_secs(1),
        };
        let Ports { store, log, leases, index: _ } = self.ports.clone();
        let run = forwarder::run(config, store, log, leases, self.clock.clone(), CancellationToken::new());
        self.tasks.spawn(async move { run.await.unwrap() });
        let config = BalanceConfig {
            holder: Holder(self.ids.commit().to_string().into()),
            partitions: self.partitions,
            lease_ttl,
            reconcile_every: None,
            verify_every: None,
            keep_previous: Duration::ZERO,
        };
        let (ports, clock, ids) = (self.ports.clone(), self.clock.clone(), self.ids.clone());
        let run =
            project(config, ports, clock, ids, self.nudge.clone(), Visibility::default(), CancellationToken::new());
        self.tasks.spawn(async move { run.await.unwrap() });
    }

    /// Appends one more event to every account.
    pub(crate) async fn append(&self) {
        let known = self.events.fetch_add(1, Ordering::SeqCst);
        let transaction: CommitId = self.ids.commit();
        let event = if known == 0 {
            AccountEvent::AccountOpened {
                currency: "EUR".parse().unwrap(),
                overdraft_limit: Money::ZERO,
                opening: Money::ZERO,
                personal: Personal { owner: Owner::new("Paulo").unwrap() },
            }
        } else {
            AccountEvent::MoneyDeposited { transaction, amount: Amount::new(3).unwrap() }
        };
        let commits = self.accounts.iter().map(|account| Commit {
            id: self.ids.commit(),
            time: Timestamp::from_micros(1_700_000_000_000_000),
            key: None,
            receipt: bytes::Bytes::new(),
            writes: vec![StreamWrite {
                stream: *account,
                expected: Version::new(known),
                events: codec::encode(&[NewEvent {
                    id: self.ids.event(),
                    time: self.clock.now(),
                    event: event.clone(),
                }]),
            }],
        });
        for appended in self.ports.store.append(commits.collect()).await {
            appended.unwrap();
        }
    }

    /// Waits until every account is visible as the store has it, and verifies that.
    pub(crate) async fn wait_until_settled(&self) {
        let head = Version::new(self.events.load(Ordering::SeqCst));
        for account in &self.accounts {
            until("the view has every event", async || {
                let found = self.ports.index.get(*account).await;
                found.is_ok_and(|found| found.is_some_and(|balance| balance.version == head))
            })
            .await;
        }
        let active = self.ports.index.generations().await.unwrap().active.unwrap();
        // A new index cannot be queried at once.
        let mut verification = None;
        until("the index can be compared", async || {
            let patience = verification_patience(LEASE_TTL);
            verification = verify(&self.ports, active, self.partitions, patience, &RightOfWay::default()).await.ok();
            verification.is_some()
        })
        .await;
        let verification = verification.unwrap();
        assert!(verification.is_clean() && verification.checked == self.accounts.len() as u64, "{verification:?}");
    }

    pub(crate) async fn rebuild(&self) {
        self.rebuilds.start().await.unwrap();
        until("the rebuild is done", async || {
            self.rebuilds.status().await.unwrap().is_some_and(|status| status.job.state == JobState::Done)
        })
        .await;
    }

    /// Reads every account until `work` is done: a version once seen is never followed by a lower one. A view that is
    /// missing for a while is no step back.
    pub(crate) async fn while_watched<T>(&self, work: impl Future<Output = T>) -> T {
        let watching = async {
            let mut seen: BTreeMap<AccountId, Version> = BTreeMap::new();
            loop {
                for account in &self.accounts {
                    match self.ports.index.get(*account).await {
                        Ok(found) => {
                            let version = found.map_or(Version::EMPTY, |balance| balance.version);
                            let before = seen.insert(*account, version).unwrap_or_default();
                            assert!(version >= before, "{account} went from {before} to {version}");
                        }
                        Err(QueryError::NoGeneration | QueryError::Backend(_)) => {}
                        Err(other @ QueryError::BadCursor) => panic!("{other}"),
                    }
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = watching => unreachable!("it never ends"),
        }
    }

    /// The indices of this bank, hidden ones too.
    pub(crate) async fn indices(&self) -> Vec<String> {
        let (_, found) = ask(Method::GET, &format!("{}*/_alias?expand_wildcards=all", self.alias), None).await;
        found.as_object().unwrap().keys().cloned().collect()
    }

    /// Ends the services and removes what they made.
    pub(crate) async fn remove(mut self) {
        self.tasks.shutdown().await;
        for index in self.indices().await {
            ask(Method::DELETE, &index, None).await;
        }
    }
}

fn url() -> String {
    std::env::var("BANK_TEST_ELASTIC_URL").unwrap_or_else(|_| {
        panic!("BANK_TEST_ELASTIC_URL is not set: run ./scripts/servers up, then eval \"$(./scripts/servers env)\"")
    })
}

/// Asks Elasticsearch as a user's `curl` does.
pub(crate) async fn ask(method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.request(method, format!("{}/{path}", url()));
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.timeout(Duration::from_secs(30)).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Waits for a condition, with a generous time limit.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it never came to pass that {what}");
}
