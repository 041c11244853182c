use shared::lease::LeaseStore;

use crate::bank::{Bank, PARTITIONS, until};

async fn holders(bank: &Bank) -> Vec<String> {
    let held = bank.ports.leases.list("balance/partition/").await.unwrap();
    held.into_iter().map(|held| held.holder.to_string()).collect()
}

/// Goal: partitions spread evenly over the processes that run, and move to others when one of them dies without notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_spread_over_the_services_present_and_survive_the_death_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut bank = Bank::start(folder.path()).await;
    let account = bank.opened(1).await;
    let other = bank.opened(2).await;
    let second = bank.start_projection("two");
    until("both services own half of the partitions", async || {
        let holders = holders(&bank).await;
        let of_second = holders.iter().filter(|holder| holder.starts_with("two-")).count();
        holders.len() == usize::from(PARTITIONS) && of_second == usize::from(PARTITIONS / 2)
    })
    .await;
    bank.deposit(account, 3).await;
    bank.wait_until_settled(&[account, other]).await;

    second.abort();
    until("the first service owns all partitions again", async || {
        let holders = holders(&bank).await;
        holders.len() == usize::from(PARTITIONS) && holders.iter().all(|holder| holder.starts_with("one-"))
    })
    .await;
    bank.deposit(account, 4).await;
    bank.deposit(other, 5).await;
    bank.wait_until_settled(&[account, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_forwarders_and_the_death_of_the_leader_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut bank = Bank::open(folder.path()).await;
    let leader = bank.start_forwarder();
    bank.start_projection("one");
    bank.wait_for_view().await;
    let account = bank.opened(1).await;
    bank.wait_until_settled(&[account]).await;
    bank.start_forwarder();
    leader.abort();
    for amount in 1..30 {
        bank.deposit(account, amount).await;
    }
    bank.wait_until_settled(&[account]).await;
}
