use std::path::Path;

use shared::id::AccountId;

use crate::bank::Bank;

fn remove_file(folder: &Path, name: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let removed = std::fs::remove_file(folder.join(format!("{name}{suffix}")));
        assert!(removed.is_ok() || !suffix.is_empty(), "{name} is there to be removed");
    }
}

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
    // Events that nobody has forwarded yet, then a log that has forgotten everything.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_epochs_do_not_stop_the_workers() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = with_accounts(folder.path()).await;
    remove_file(folder.path(), "leases.db");
    let bank = Bank::start(folder.path()).await;
    bank.deposit(accounts[3], 17).await;
    bank.wait_until_settled(&accounts).await;
}
