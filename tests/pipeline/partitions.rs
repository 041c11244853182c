//! A bank whose number of partitions is changed, as docs/OPERATIONS.md describes it for a bank on servers: the log is
//! removed, and everything else stays. What was noted by partition before must not be taken for what the partitions of
//! the same numbers need now. No tool changes an embedded bank, but its backends keep the same things in the same way.

use std::path::Path;

use balance_service::rebuild::JobState;
use futures::future::join_all;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Phase};
use shared::log::PartitionLog;
use tokio::task::AbortHandle;

use crate::bank::{Bank, remove_file, until};

/// The number of partitions at first, and those it is changed to. Some partitions go, and come back.
const FIRST: u16 = 8;
const CHANGES: [u16; 3] = [12, 4, 8];

/// How many accounts there are: some dozens for each partition.
const ACCOUNTS: usize = 300;

/// How many of them get an event that the old log never holds.
const UNFORWARDED: usize = 100;

/// A bank, and the tasks of its services.
struct Running {
    bank: Bank,
    forwarder: AbortHandle,
    projection: AbortHandle,
}

impl Running {
    async fn start(folder: &Path, partitions: u16) -> Self {
        let mut bank = Bank::open_divided(folder, partitions).await;
        let (forwarder, projection) = (bank.start_forwarder(), bank.start_projection("one"));
        bank.wait_for_view().await;
        Self { bank, forwarder, projection }
    }

    /// Ends the bank, so that the view lacks events that the log holds, and the log lacks events that the store holds.
    async fn stop(self, accounts: &[AccountId]) {
        let Self { bank, forwarder, projection } = self;
        end(&projection).await;
        let before = records(&bank).await;
        deposit(&bank, accounts).await;
        until("all is forwarded", async || records(&bank).await >= before + accounts.len() as u64).await;
        end(&forwarder).await;
        deposit(&bank, &accounts[..UNFORWARDED]).await;
        bank.kill().await;
    }
}

async fn end(task: &AbortHandle) {
    task.abort();
    until("the task has ended", async || task.is_finished()).await;
}

async fn deposit(bank: &Bank, accounts: &[AccountId]) {
    join_all(accounts.iter().map(|account| bank.deposit(*account, 1))).await;
}

/// How many records all partitions have taken.
async fn records(bank: &Bank) -> u64 {
    let mut records = 0;
    for partition in bank.partitions.all() {
        records += bank.ports.log.extent(partition).await.unwrap().last.get();
    }
    records
}

/// Waits until every partition of the active generation is followed in the log that the bank has now.
async fn wait_until_followed(bank: &Bank) {
    let active = bank.active().await;
    for partition in bank.partitions.all() {
        until("a worker follows the partition", async || {
            // The forwarder renews partitions that the bank did not have before.
            let life = bank.ports.log.extent(partition).await.unwrap().incarnation;
            let noted = bank.ports.index.checkpoint(active, partition).await.unwrap();
            noted.is_some_and(|noted| noted.incarnation == life && matches!(noted.phase, Phase::Live { .. }))
        })
        .await;
    }
}

async fn roll_back(bank: &Bank) {
    bank.rebuilds.rollback().await.unwrap();
    let job = bank.wait_for_job().await.job;
    assert_eq!((job.state, job.failure), (JobState::Done, None));
}

/// Goal: after each change every document is right in the generation that answers and in the one kept for a rollback,
/// and a rebuild builds a third. The one that answers at a change is always the first, so it has seen every division.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_with_another_number_of_partitions_shows_every_event_and_can_be_rebuilt_and_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path(), FIRST).await;
    let accounts = join_all((0..ACCOUNTS).map(|_| running.bank.opened(5))).await;
    running.bank.wait_until_settled(&accounts).await;
    let first = running.bank.active().await;
    running.bank.rebuild().await;
    roll_back(&running.bank).await;
    for partitions in CHANGES {
        running.stop(&accounts).await;
        remove_file(folder.path(), "log.db");
        running = Running::start(folder.path(), partitions).await;
        let bank = &running.bank;
        wait_until_followed(bank).await;
        bank.wait_until_settled(&accounts).await;
        deposit(bank, &accounts).await;
        bank.wait_until_settled(&accounts).await;
        roll_back(bank).await;
        bank.wait_until_settled(&accounts).await;
        roll_back(bank).await;
        bank.rebuild().await;
        bank.wait_until_settled(&accounts).await;
        roll_back(bank).await;
        assert_eq!(bank.active().await, first, "each job has kept it");
        bank.wait_until_settled(&accounts).await;
    }
}
