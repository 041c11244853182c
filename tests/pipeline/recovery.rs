use std::path::Path;
use std::time::Duration;

use shared::coordinate::{Epoch, Version};
use shared::id::AccountId;
use shared::index::{Balance, BalanceIndex, Projected};
use shared::telemetry::install_metrics;
use shared::telemetry::metric::AHEAD_OF_STORE;

use crate::bank::{Bank, remove_file, until};

async fn with_accounts(folder: &Path) -> Vec<AccountId> {
    let bank = Bank::start(folder).await;
    let mut accounts = Vec::new();
    for money in 1..20 {
        accounts.push(bank.opened(money).await);
    }
    bank.wait_until_settled(&accounts).await;
    bank.kill().await;
    accounts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_index_is_rebuilt_from_the_store_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = with_accounts(folder.path()).await;
    remove_file(folder.path(), "index.db");
    let bank = Bank::start(folder.path()).await;
    bank.deposit(accounts[0], 7).await;
    bank.wait_until_settled(&accounts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_comes_back_empty_costs_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = with_accounts(folder.path()).await;
    // An event that is not forwarded yet, then a log that has lost everything.
    let bank = Bank::open(folder.path()).await;
    bank.deposit(accounts[1], 11).await;
    bank.kill().await;
    remove_file(folder.path(), "log.db");
    let bank = Bank::start(folder.path()).await;
    bank.deposit(accounts[2], 13).await;
    bank.wait_until_settled(&accounts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_log_and_index_may_all_be_lost_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = with_accounts(folder.path()).await;
    for name in ["log.db", "leases.db", "index.db"] {
        remove_file(folder.path(), name);
    }
    let bank = Bank::start(folder.path()).await;
    bank.wait_until_settled(&accounts).await;
}

/// The epochs under which the partitions were written last.
async fn epochs(bank: &Bank) -> Vec<Epoch> {
    let (index, active) = (&bank.ports.index, bank.active().await);
    let mut epochs = Vec::new();
    for partition in bank.partitions.all() {
        epochs.push(index.checkpoint(active, partition).await.unwrap().unwrap().epoch);
    }
    epochs
}

/// Goal: leases that begin anew are granted above every epoch that a checkpoint has. Under the same epoch again, the
/// index could not tell the new worker from the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_epochs_do_not_stop_the_workers() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = with_accounts(folder.path()).await;
    let bank = Bank::open(folder.path()).await;
    let before = epochs(&bank).await;
    bank.kill().await;
    remove_file(folder.path(), "leases.db");
    let bank = Bank::start(folder.path()).await;
    bank.deposit(accounts[3], 17).await;
    bank.wait_until_settled(&accounts).await;
    until("every partition is written under a higher epoch", async || {
        epochs(&bank).await.iter().zip(&before).all(|(now, before)| now > before)
    })
    .await;
}

/// Goal: a store that was set back to a state before that of the view is noticed without a request, and nothing is
/// changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_are_ahead_of_the_store_are_counted_when_heads_are_compared() {
    let metrics = install_metrics().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut bank, accounts) = Bank::start_without_projection(folder.path(), [10, 20]).await;
    let ahead = Balance { version: Version::new(9), ..bank.visible(accounts[0]).await.unwrap() };
    let projected = Projected { balances: vec![ahead.clone()], ..Projected::default() };
    bank.ports.index.apply(bank.active().await, &projected).await.unwrap();
    bank.start_projection_comparing("two", Some(Duration::from_millis(200)));
    let partition = bank.partitions.partition_of(&accounts[0]);
    let counter = format!("{}{{partition=\"{partition}\"}} ", AHEAD_OF_STORE.name);
    until("it is counted", async || {
        metrics.render().lines().any(|line| line.strip_prefix(&counter).is_some_and(|count| count != "0"))
    })
    .await;
    assert_eq!(bank.visible(accounts[0]).await.unwrap(), ahead);
}
