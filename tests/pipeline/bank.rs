use std::path::{Path, PathBuf};
use std::time::Duration;

use account_service::account::Command;
use account_service::command::{Request, Settings, Teller};
use balance_service::rebuild::{JobState, RebuildStatus, Rebuilds};
use balance_service::verify::{self, Check, PartitionReport, Progress, Scope, Verification, verify};
use balance_service::{BalanceConfig, Nudge, RightOfWay, Visibility, project};
use forwarder::ForwarderConfig;
use futures::StreamExt;
use shared::backends::Ports;
use shared::clock::Clock;
use shared::id::{AccountId, Ids};
use shared::index::{Balance, BalanceIndex, EmbeddedIndex, Generation};
use shared::lease::{EmbeddedLeases, Holder};
use shared::log::EmbeddedLog;
use shared::money::Amount;
use shared::owner::Owner;
use shared::partition::PartitionMap;
use shared::sqlite::DataFolder;
use shared::store::EmbeddedStore;
use shared::supervise::Supervisor;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) type Embedded = Ports<EmbeddedStore, EmbeddedLog, EmbeddedLeases, EmbeddedIndex>;

/// How long anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// For differences that nothing mends meanwhile.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(100);

/// How long leases last. A process that ends without giving them back is replaced after that.
pub(crate) const LEASE_TTL: Duration = Duration::from_millis(600);

/// Few, so that each test sees several accounts in a partition and several partitions.
pub(crate) const PARTITIONS: u16 = 4;

/// A bank in process. Services are started one by one, so that a test can leave some out or kill them.
pub(crate) struct Bank {
    pub(crate) ports: Embedded,
    pub(crate) partitions: PartitionMap,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) teller: Teller<EmbeddedStore>,
    pub(crate) rebuilds: Rebuilds<Embedded>,
    folder: PathBuf,
    nudge: Nudge,
    tasks: JoinSet<()>,
    _teller_tasks: Supervisor,
}

impl Bank {
    /// Opens the backends and the teller; nothing is forwarded or projected yet.
    pub(crate) async fn open(folder: &Path) -> Self {
        Self::open_divided(folder, PARTITIONS).await
    }

    /// The same with another number of partitions, which its log must have, if it is there.
    pub(crate) async fn open_divided(folder: &Path, partitions: u16) -> Self {
        let clock = Clock::system();
        let ids = Ids::new(clock.clone());
        let partitions = PartitionMap::new(partitions).unwrap();
        let data = DataFolder::open(folder).unwrap();
        let ports = Ports {
            store: EmbeddedStore::open(&data).unwrap(),
            log: EmbeddedLog::open(&data, partitions, clock.clone(), ids.clone()).await.unwrap(),
            leases: EmbeddedLeases::open(&data).unwrap(),
            index: EmbeddedIndex::open(&data).unwrap(),
        };
        let open = CancellationToken::new();
        let mut teller_tasks = Supervisor::new(open.clone());
        let store = ports.store.clone();
        let teller = Teller::start(Settings::default(), store, clock.clone(), ids.clone(), &mut teller_tasks, &open);
        let nudge = Nudge::default();
        let rebuilds = Rebuilds::new(ports.clone(), partitions, clock.clone(), ids.clone(), nudge.clone());
        let (folder, tasks) = (folder.to_owned(), JoinSet::new());
        Self { ports, partitions, clock, ids, teller, rebuilds, folder, nudge, tasks, _teller_tasks: teller_tasks }
    }

    /// Opens a bank with one forwarder and one balance service, and waits for its view.
    pub(crate) async fn start(folder: &Path) -> Self {
        let mut bank = Self::open(folder).await;
        bank.start_forwarder();
        bank.start_projection("one");
        bank.wait_for_view().await;
        bank
    }

    /// Opens a bank with one visible account for each opening balance, and ends its projection: from here on nothing is
    /// mended, no job runs, and nobody holds a partition.
    pub(crate) async fn start_without_projection(
        folder: &Path,
        openings: impl IntoIterator<Item = i64>,
    ) -> (Self, Vec<AccountId>) {
        let mut bank = Self::open(folder).await;
        bank.start_forwarder();
        let end = CancellationToken::new();
        let projection = bank.start_projection_until(bank.config("one"), end.clone());
        bank.wait_for_view().await;
        let mut accounts = Vec::new();
        for money in openings {
            accounts.push(bank.opened(money).await);
        }
        bank.wait_until_settled(&accounts).await;
        // The job that made the view shows it before it is over.
        bank.wait_for_job().await;
        // In order: what an aborted task has started goes on until it is next polled, and could fold what comes next.
        end.cancel();
        until("the projection has ended", async || projection.is_finished()).await;
        (bank, accounts)
    }

    pub(crate) fn start_forwarder(&mut self) -> AbortHandle {
        let config = ForwarderConfig {
            holder: Holder(self.ids.commit().to_string().into()),
            partitions: self.partitions,
            lease_ttl: LEASE_TTL,
            log_window: Duration::from_hours(1),
            trim_every: Duration::from_secs(1),
        };
        let Ports { store, log, leases, index: _ } = self.ports.clone();
        let run = forwarder::run(config, store, log, leases, self.clock.clone(), CancellationToken::new());
        self.tasks.spawn(async move { run.await.unwrap() })
    }

    pub(crate) fn start_projection(&mut self, name: &str) -> AbortHandle {
        self.start_projection_with(self.config(name))
    }

    /// The same, under leases that last this long. A verification before a switch waits at least three times as long.
    pub(crate) fn start_projection_leasing(&mut self, name: &str, lease_ttl: Duration) -> AbortHandle {
        self.start_projection_with(BalanceConfig { lease_ttl, ..self.config(name) })
    }

    /// The same, comparing heads at this interval.
    pub(crate) fn start_projection_comparing(&mut self, name: &str, reconcile_every: Option<Duration>) -> AbortHandle {
        self.start_projection_with(BalanceConfig { reconcile_every, ..self.config(name) })
    }

    /// The same, verifying the view at this interval.
    pub(crate) fn start_projection_verifying(&mut self, name: &str, every: Duration) -> AbortHandle {
        self.start_projection_with(BalanceConfig { verify_every: Some(every), ..self.config(name) })
    }

    fn config(&self, name: &str) -> BalanceConfig {
        BalanceConfig {
            holder: Holder(format!("{name}-{}", self.ids.commit()).into()),
            partitions: self.partitions,
            lease_ttl: LEASE_TTL,
            reconcile_every: None,
            verify_every: None,
            keep_previous: Duration::from_hours(1),
        }
    }

    fn start_projection_with(&mut self, config: BalanceConfig) -> AbortHandle {
        self.start_projection_until(config, CancellationToken::new())
    }

    /// The same, to be ended in order.
    fn start_projection_until(&mut self, config: BalanceConfig, end: CancellationToken) -> AbortHandle {
        let (ports, clock, ids) = (self.ports.clone(), self.clock.clone(), self.ids.clone());
        let (nudge, visibility) = (self.nudge.clone(), Visibility::default());
        let run = project(config, ports, clock, ids, nudge, visibility, end);
        self.tasks.spawn(async move { run.await.unwrap() })
    }

    /// Aborts what was started, as a kill would, and waits until the files are closed.
    pub(crate) async fn kill(self) {
        let Self { folder, tasks, teller, rebuilds, ports, _teller_tasks: teller_tasks, .. } = self;
        let mut tasks = tasks;
        tasks.shutdown().await;
        drop((teller, rebuilds, teller_tasks));
        tokio::task::spawn_blocking(move || drop(ports)).await.unwrap();
        // Aborted tasks drop their handles only when they are next polled, and the last handle closes a file.
        until("the files are closed", async || DataFolder::open(&folder).is_ok()).await;
    }

    pub(crate) async fn opened(&self, money: i64) -> AccountId {
        let account = self.ids.account();
        let open = Command::Open {
            account,
            owner: Owner::new("Paulo").unwrap(),
            currency: "EUR".parse().unwrap(),
            opening: Amount::new(money).ok(),
            overdraft_limit: None,
        };
        self.execute(open).await;
        account
    }

    pub(crate) async fn execute(&self, command: Command) {
        self.teller.execute(Request { command, key: None, if_match: None }).await.unwrap();
    }

    pub(crate) async fn deposit(&self, account: AccountId, amount: i64) {
        self.execute(Command::Deposit { account, amount: Amount::new(amount).unwrap() }).await;
    }

    pub(crate) async fn wait_for_view(&self) {
        until("there is a view", async || self.ports.index.generations().await.unwrap().active.is_some()).await;
    }

    pub(crate) async fn active(&self) -> Generation {
        self.ports.index.generations().await.unwrap().active.unwrap()
    }

    pub(crate) async fn visible(&self, account: AccountId) -> Option<Balance> {
        self.ports.index.get(account).await.ok().flatten()
    }

    /// Waits until every account is visible as the store has it, and verifies that.
    pub(crate) async fn wait_until_settled(&self, accounts: &[AccountId]) {
        for account in accounts {
            let version = self.teller.account(*account).await.unwrap().unwrap().version;
            until("the view has every event", async || {
                self.visible(*account).await.is_some_and(|balance| balance.version == version)
            })
            .await;
        }
        let verification = self.verify(verify::verification_patience(Duration::ZERO)).await;
        assert!(verification.is_clean(), "{verification:?}");
        assert_eq!(verification.checked, accounts.len() as u64);
    }

    pub(crate) async fn verify(&self, patience: Duration) -> Verification {
        verify(&self.ports, self.active().await, self.partitions, patience, &RightOfWay::default()).await.unwrap()
    }

    /// Checks every partition of the active generation; returns the reports in the order of the partitions.
    pub(crate) async fn check(&self, patience: Duration, repair: bool) -> Vec<PartitionReport> {
        self.check_scope(Scope::Partitions(self.partitions.all().collect()), patience, repair).await
    }

    pub(crate) async fn check_scope(&self, scope: Scope, patience: Duration, repair: bool) -> Vec<PartitionReport> {
        let check = Check { scope, patience, repair };
        let reports = verify::check(self.ports.clone(), self.partitions, check, Progress::default());
        reports.map(Result::unwrap).collect().await
    }

    pub(crate) async fn wait_for_job(&self) -> RebuildStatus {
        until("the job is over", async || {
            let status = self.rebuilds.status().await.unwrap();
            status.is_some_and(|status| !status.job.state.is_running())
        })
        .await;
        self.rebuilds.status().await.unwrap().unwrap()
    }

    pub(crate) async fn rebuild(&self) -> RebuildStatus {
        // The job before this one, if only that of the first view, shows its generation before it is over.
        self.wait_for_job().await;
        self.rebuilds.start().await.unwrap();
        let status = self.wait_for_job().await;
        assert_eq!(status.job.state, JobState::Done, "{status:?}");
        status
    }
}

/// Removes a file of a bank that is not open.
pub(crate) fn remove_file(folder: &Path, name: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let removed = std::fs::remove_file(folder.join(format!("{name}{suffix}")));
        assert!(removed.is_ok() || !suffix.is_empty(), "{name} is there to be removed");
    }
}

/// Waits for a condition, with a generous time limit.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it never came to pass that {what}");
}
