//! A bank for tests: the embedded store in a folder of its own, with faults on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use shared::clock::{Clock, Timestamp};
use shared::coordinate::{Position, Revision, Version};
use shared::error::{BackendError, Retry};
use shared::event::{AccountEvent, NewEvent, Recorded, StreamAfter, codec};
use shared::id::{AccountId, CommitId, Ids};
use shared::money::Amount;
use shared::partition::SlotRange;
use shared::sqlite::DataFolder;
use shared::store::{
    AppendError, Appended, Commit, EmbeddedStore, EventStore, FeedError, IdempotencyKey, KeyedRequest, Register,
    Registers, ScanPage, Snapshot, Snapshots, StoredCommit, StreamWrite, WriteError,
};
use shared::supervise::Supervisor;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::account::Command;
use crate::command::{CommandError, Outcome, Request, Settings, Teller};

/// Nearly as long as a call to the store may take.
const SLOW: Duration = Duration::from_millis(1_900);

/// A store that counts appends, and fails some of them.
#[derive(Clone, Debug)]
pub(crate) struct RoughStore {
    inner: EmbeddedStore,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    appends: AtomicU64,
    /// How many of the next appends take effect, but report an unknown outcome.
    silent: AtomicU64,
    /// How many of the next appends take effect, but report an outcome that stays unknown.
    lost: AtomicU64,
    /// How many of the next appends fail without effect.
    not_done: AtomicU64,
    /// How many of the next appends fail for good.
    broken: AtomicU64,
    /// How many of the next appends do nothing and never return.
    hanging: AtomicU64,
    /// How many of the next appends take nearly as long as they may, and then lose to another writer.
    outrun: AtomicU64,
    /// The most events that one read has asked for.
    asked_max: AtomicUsize,
    /// How many events all reads together have asked for.
    asked: AtomicUsize,
    /// How many milliseconds a read takes longer.
    slow_reads_ms: AtomicU64,
    /// How many of the next reads of streams fail.
    failing_reads: AtomicU64,
    /// How many of the next reads of streams do not see the last commit.
    old_reads: AtomicU64,
}

fn take_one(count: &AtomicU64) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl RoughStore {
    pub(crate) fn appends(&self) -> u64 {
        self.faults.appends.load(Ordering::SeqCst)
    }

    pub(crate) fn lose_answers(&self, appends: u64) {
        self.faults.silent.store(appends, Ordering::SeqCst);
    }

    pub(crate) fn lose_answers_for_good(&self, appends: u64) {
        self.faults.lost.store(appends, Ordering::SeqCst);
    }

    pub(crate) fn fail(&self, appends: u64) {
        self.faults.not_done.store(appends, Ordering::SeqCst);
    }

    pub(crate) fn break_down(&self, appends: u64) {
        self.faults.broken.store(appends, Ordering::SeqCst);
    }

    pub(crate) fn hang(&self, appends: u64) {
        self.faults.hanging.store(appends, Ordering::SeqCst);
    }

    pub(crate) fn outrun(&self, appends: u64) {
        self.faults.outrun.store(appends, Ordering::SeqCst);
    }

    pub(crate) fn events_asked_max(&self) -> usize {
        self.faults.asked_max.load(Ordering::SeqCst)
    }

    pub(crate) fn events_asked(&self) -> usize {
        self.faults.asked.load(Ordering::SeqCst)
    }

    /// Lets the next reads of streams not see the last commit, as from a new primary for a moment.
    pub(crate) fn read_behind(&self, reads: u64) {
        self.faults.old_reads.store(reads, Ordering::SeqCst);
    }

    pub(crate) fn fail_reads(&self, reads: u64) {
        self.faults.failing_reads.store(reads, Ordering::SeqCst);
    }

    /// Each read of streams takes this much longer from now on.
    pub(crate) fn slow_reads(&self, by: Duration) {
        self.faults.slow_reads_ms.store(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// As if another writer had been faster at the first stream of each commit.
fn outrun_each(commits: &[Commit]) -> Vec<Result<Appended, AppendError>> {
    let conflict = |commit: &Commit| {
        let write = &commit.writes[0];
        Err(AppendError::Conflict { stream: write.stream, expected: write.expected })
    };
    commits.iter().map(conflict).collect()
}

fn failure_for_each(commits: usize, failure: impl Fn() -> BackendError) -> Vec<Result<Appended, AppendError>> {
    (0..commits).map(|_| Err(failure().into())).collect()
}

impl EventStore for RoughStore {
    type Feed = <EmbeddedStore as EventStore>::Feed;

    async fn append(&self, commits: Vec<Commit>) -> Vec<Result<Appended, AppendError>> {
        self.faults.appends.fetch_add(1, Ordering::SeqCst);
        let asked = commits.len();
        if take_one(&self.faults.hanging) {
            std::future::pending::<()>().await;
        }
        if take_one(&self.faults.outrun) {
            tokio::time::sleep(SLOW).await;
            return outrun_each(&commits);
        }
        if take_one(&self.faults.not_done) {
            return failure_for_each(asked, || BackendError::not_done("append", "refused by the test"));
        }
        if take_one(&self.faults.broken) {
            return failure_for_each(asked, || BackendError::broken("append", "broken by the test"));
        }
        let answers = self.inner.append(commits).await;
        if take_one(&self.faults.silent) {
            return failure_for_each(asked, || BackendError::unknown("append", "lost by the test"));
        }
        if take_one(&self.faults.lost) {
            return failure_for_each(asked, || BackendError {
                retry: Retry::Never,
                ..BackendError::unknown("append", "lost by the test")
            });
        }
        answers
    }

    async fn read_streams(
        &self,
        streams: &[StreamAfter],
        limit_each: usize,
    ) -> Result<Vec<Vec<Recorded>>, BackendError> {
        self.faults.asked_max.fetch_max(streams.len() * limit_each, Ordering::SeqCst);
        self.faults.asked.fetch_add(streams.len() * limit_each, Ordering::SeqCst);
        let slow_by = self.faults.slow_reads_ms.load(Ordering::SeqCst);
        if slow_by > 0 {
            tokio::time::sleep(Duration::from_millis(slow_by)).await;
        }
        if take_one(&self.faults.failing_reads) {
            return Err(BackendError::not_done("read_streams", "refused by the test"));
        }
        let mut read = self.inner.read_streams(streams, limit_each).await?;
        if take_one(&self.faults.old_reads) {
            for records in &mut read {
                records.pop();
            }
        }
        Ok(read)
    }

    async fn find_commits(&self, ids: &[CommitId]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        self.inner.find_commits(ids).await
    }

    async fn find_keys(&self, keys: &[IdempotencyKey]) -> Result<Vec<Option<StoredCommit>>, BackendError> {
        self.inner.find_keys(keys).await
    }

    async fn scan(&self, slots: SlotRange, after: Option<StreamAfter>, limit: usize) -> Result<ScanPage, BackendError> {
        self.inner.scan(slots, after, limit).await
    }

    async fn heads(
        &self,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        self.inner.heads(slots, after, limit).await
    }

    async fn head(&self) -> Result<Position, BackendError> {
        self.inner.head().await
    }

    async fn feed(&self, after: Position) -> Result<Self::Feed, FeedError> {
        self.inner.feed(after).await
    }
}

impl Snapshots for RoughStore {
    async fn load_snapshots(&self, streams: &[AccountId]) -> Result<Vec<Option<Snapshot>>, BackendError> {
        self.inner.load_snapshots(streams).await
    }

    async fn save_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), BackendError> {
        self.inner.save_snapshots(snapshots).await
    }
}

impl Registers for RoughStore {
    async fn read_register(&self, name: &str) -> Result<Option<Register>, BackendError> {
        self.inner.read_register(name).await
    }

    async fn write_register(&self, name: &str, expected: Revision, value: Bytes) -> Result<Revision, WriteError> {
        self.inner.write_register(name, expected, value).await
    }

    async fn remove_register(&self, name: &str, expected: Revision) -> Result<(), WriteError> {
        self.inner.remove_register(name, expected).await
    }

    async fn list_registers(&self, prefix: &str) -> Result<Vec<(String, Register)>, BackendError> {
        self.inner.list_registers(prefix).await
    }
}

/// One process of the bank. The store's folder is deleted with the bank.
pub(crate) struct Bank {
    pub(crate) store: RoughStore,
    pub(crate) teller: Teller<RoughStore>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) supervisor: Supervisor,
    folder: Arc<TempDir>,
}

impl Bank {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let store = RoughStore { inner: EmbeddedStore::open(&data).unwrap(), faults: Arc::default() };
        Self::process(store, Arc::new(folder))
    }

    /// Another process on the same store.
    pub(crate) fn sibling(&self) -> Self {
        Self::process(self.store.clone(), Arc::clone(&self.folder))
    }

    fn process(store: RoughStore, folder: Arc<TempDir>) -> Self {
        let shutdown = CancellationToken::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        let (clock, ids) = (Clock::system(), Ids::new(Clock::system()));
        let teller = Teller::start(Settings::default(), store.clone(), clock, ids, &mut supervisor, &shutdown);
        Self { store, teller, shutdown, supervisor, folder }
    }

    pub(crate) async fn open(&self, opening: i64) -> AccountId {
        let account = self.teller.ids().account();
        let command = Command::Open {
            account,
            owner: serde_json::from_str("\"Paulo\"").unwrap(),
            currency: "EUR".parse().unwrap(),
            opening: Amount::new(opening).ok(),
            overdraft_limit: None,
        };
        self.execute(command).await.unwrap();
        account
    }

    /// An account that was opened with nothing, and got this many thousand deposits of 1 that no process has in memory.
    pub(crate) async fn open_long(&self, thousands: u64) -> AccountId {
        let account = self.open(0).await;
        self.deposit_thousands(account, thousands).await;
        account
    }

    /// Gives an account at version 1 this many thousand deposits of 1 that no process has in memory.
    pub(crate) async fn deposit_thousands(&self, account: AccountId, thousands: u64) {
        let commits = (0..thousands).map(|before| self.thousand_deposits(account, Version::new(1 + 1_000 * before)));
        let answers = self.store.append(commits.collect()).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }

    fn thousand_deposits(&self, stream: AccountId, expected: Version) -> Commit {
        let (id, amount) = (self.teller.ids().commit(), Amount::new(1).unwrap());
        let deposit = || {
            let event = AccountEvent::MoneyDeposited { transaction: id, amount };
            NewEvent { id: self.teller.ids().event(), time: Timestamp::EPOCH, event }
        };
        let events = codec::encode(&(0..1_000).map(|_| deposit()).collect::<Vec<_>>());
        let writes = vec![StreamWrite { stream, expected, events }];
        Commit { id, time: Timestamp::EPOCH, key: None, receipt: Bytes::from_static(b"?"), writes }
    }

    /// The snapshot of an account, as soon as it has one.
    pub(crate) async fn snapshot(&self, account: AccountId) -> Snapshot {
        let saved = async {
            loop {
                if let [Some(snapshot)] = &self.store.load_snapshots(&[account]).await.unwrap()[..] {
                    return snapshot.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), saved).await.expect("the account gets a snapshot")
    }

    pub(crate) async fn execute(&self, command: Command) -> Result<Outcome, CommandError> {
        self.teller.execute(Request { command, key: None, if_match: None }).await
    }

    pub(crate) async fn execute_keyed(&self, key: &str, command: Command) -> Result<Outcome, CommandError> {
        // A digest that differs when the command does.
        let request = Sha256::digest(format!("{command:?}")).into();
        let key = Some(KeyedRequest { key: IdempotencyKey::new(key).unwrap(), request });
        self.teller.execute(Request { command, key, if_match: None }).await
    }

    pub(crate) async fn balance(&self, account: AccountId) -> i64 {
        self.teller.account(account).await.unwrap().expect("the account is open").balance.get()
    }

    pub(crate) async fn version(&self, account: AccountId) -> Version {
        self.teller.account(account).await.unwrap().expect("the account is open").version
    }

    /// How many events the bank holds in all.
    pub(crate) async fn events(&self) -> u64 {
        let heads = self.store.heads(SlotRange::ALL, None, 10_000).await.unwrap();
        heads.iter().map(|(_, version)| version.get()).sum()
    }
}

pub(crate) fn deposit(account: AccountId, minor_units: i64) -> Command {
    Command::Deposit { account, amount: Amount::new(minor_units).unwrap() }
}

pub(crate) fn withdraw(account: AccountId, minor_units: i64) -> Command {
    Command::Withdraw { account, amount: Amount::new(minor_units).unwrap() }
}

pub(crate) fn transfer(from: AccountId, to: AccountId, minor_units: i64) -> Command {
    Command::Transfer { from, to, amount: Amount::new(minor_units).unwrap() }
}
