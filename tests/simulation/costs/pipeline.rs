//! What it costs to bring events from the store into the log, and from the log into the view.

use std::time::Duration;

use shared::coordinate::Epoch;
use shared::index::{BalanceIndex, Seal};
use shared::lease::{Holder, LeaseName, LeaseStore};
use shared::log::PartitionLog;
use shared::partition::Partition;
use tokio::time::{Instant, sleep};

use super::bank::{ACCOUNTS, Bank, EVENTS_EACH, all_taken, deposit, opened};
use super::bill::{Bill, DOCUMENTS, bound};
use crate::fleet::Role;

/// Few, so that a partition's share of a backlog is more than one batch.
const PARTITIONS: u16 = 2;

/// Long enough for a backlog, and for the checkpoint once nothing more arrives.
const FORWARDED_WITHIN: Duration = Duration::from_secs(8);

/// Long enough for the commands of a thousand customers to become visible; too short for any periodic work other than
/// that on leases and generations.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn ten_thousand_events_are_forwarded_in_batches() {
    let bank = Bank::with_backlog(PARTITIONS).await;
    let bill = Bill::of(&bank.world, bank.start_for(Role::Forwarder, FORWARDED_WITHIN)).await;
    bill.assert(&[
        bound("store.next_batch", 4, "a batch is 4,096 events, and at last it is told that there are no more"),
        bound("log.publish", 6, "each of three batches is published once to each of two partitions"),
        bound("store.write_register", 1, "a checkpoint is noted every 250 ms at most, all was published sooner"),
        bound("store.read_register", 1, "the checkpoint is read at the start alone"),
        bound("store.feed", 1, "the feed is opened at the start alone"),
        bound("log.extent", 4, "the ends of two partitions are looked at when it starts, and when nothing comes"),
        bound("lease.acquire", 1, "it leads from start to end"),
        bound("lease.renew", 4, "a lease of 5 s is renewed three times in its life"),
        bound("lease.release", 1, "it leads from start to end"),
    ]);
    let mut published = 0;
    for partition in bank.partitions().all() {
        published += bank.ports().log.extent(partition).await.unwrap().last.get();
    }
    assert_eq!(published, (ACCOUNTS * EVENTS_EACH) as u64);
}

#[tokio::test(start_paused = true)]
async fn a_full_partition_holds_up_no_other_and_has_nothing_published_twice() {
    let bank = Bank::with_backlog(PARTITIONS).await;
    let [full, other] = [1, PARTITIONS].map(Partition::new);
    let ends = async || {
        let log = bank.ports().log;
        [log.extent(full).await.unwrap().last.get(), log.extent(other).await.unwrap().last.get()]
    };
    bank.world.fill_log(full, true);
    let forwarder = bank.start(Role::Forwarder);
    sleep(FORWARDED_WITHIN).await;
    let [of_full, of_other] = ends().await;
    assert_eq!(of_full, 0);
    bank.world.fill_log(full, false);
    sleep(FORWARDED_WITHIN).await;
    assert_eq!(ends().await, [(ACCOUNTS * EVENTS_EACH) as u64 - of_other, of_other]);
    forwarder.stop(0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_records_are_projected_in_batches() {
    let bank = Bank::with_backlog(PARTITIONS).await;
    bank.start_for(Role::Forwarder, FORWARDED_WITHIN).await;
    let bill = Bill::of(&bank.world, bank.project_all()).await;
    bill.assert_beside_upkeep(&[
        bound("log.next_batch", 4, "each partition holds 5,000 records, and a batch is 4,096"),
        bound("index.load", 2, "the first batch of a partition has all of its accounts, and then they are known"),
        bound(
            "index.apply",
            10,
            "each of four batches is applied and noted once, and each worker notes its epoch first",
        ),
        bound(DOCUMENTS, 4_000, "each of two batches of a partition has each of its accounts once"),
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_live_events_are_one_batch_from_the_store_to_the_view() {
    let bank = Bank::new(PARTITIONS);
    let running = [Role::Forwarder, Role::Projector].map(|role| bank.start(role));
    let accounts = bank.fill().await;
    let teller = bank.teller();
    bank.rest().await;
    // The new teller loads the accounts.
    let deposits = || accounts[..1_000].iter().map(|account| deposit(*account)).collect();
    all_taken(&teller, deposits()).await;
    bank.rest().await;
    // The checkpoint after them is noted.
    sleep(VISIBLE_WITHIN).await;

    let bill = Bill::of(&bank.world, async {
        all_taken(&teller, deposits()).await;
        sleep(VISIBLE_WITHIN).await;
    });
    bill.await.assert_beside_upkeep(&[
        bound("store.append", 1, "the commands come together"),
        bound("store.next_batch", 1, "they are one append, and are seen together"),
        bound("log.publish", 2, "the batch is published once to each of two partitions"),
        bound("log.next_batch", 2, "what was published together is read together"),
        bound("index.load", 0, "each worker knows its accounts"),
        bound("store.read_streams", 0, "the teller knows its accounts, and no worker misses anything"),
        bound(
            "index.apply",
            4,
            "what was read together is applied together, and each worker notes a checkpoint behind it",
        ),
        bound(DOCUMENTS, 1_000, "each account has one event"),
    ]);
    for fleet in running {
        fleet.stop(0).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_the_log_has_lost_are_filled_in_by_the_hundred() {
    let bank = Bank::with_backlog(PARTITIONS).await;
    for partition in bank.partitions().all() {
        bank.world.empty_log(partition);
    }
    let bill = Bill::of(&bank.world, bank.project_all()).await;
    bill.assert_beside_upkeep(&[
        bound("store.heads", 2, "a partition has 1,000 accounts, and a page 4,096"),
        bound("index.versions", 2, "a partition has no document yet"),
        bound("index.load", 6, "of a partition's 1,000 accounts, more or less, 500 are filled in at once"),
        bound("store.read_streams", 6, "the same 500, none of which has 1,000 events"),
        bound("index.apply", 8, "the same 500, and each worker notes that it is synchronised"),
        bound(DOCUMENTS, ACCOUNTS as u64, "an account is folded to its end before it is written"),
    ]);
}

#[tokio::test(start_paused = true)]
async fn gaps_of_a_thousand_accounts_in_one_batch_are_filled_in_by_the_hundred() {
    let bank = Bank::with_backlog(PARTITIONS).await;
    bank.publish_last_events().await;
    let bill = Bill::of(&bank.world, bank.project_all()).await;
    bill.assert_beside_upkeep(&[
        bound("index.load", 2, "a partition's records are one batch, and none of its accounts is known"),
        bound("store.read_streams", 5, "of a partition's 1,000 accounts, more or less, 500 are read at once"),
        bound("index.apply", 6, "each batch is applied and noted once, and each worker notes its epoch first"),
        bound(DOCUMENTS, ACCOUNTS as u64, "an account is folded to its end before it is written"),
    ]);
}

/// Long enough for three comparisons of heads.
const LATE_FOR: Duration = Duration::from_secs(100);

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_late_reads_the_log_and_not_the_store() {
    let bank = Bank::new(1);
    let _forwarder = bank.start(Role::Forwarder);
    let accounts = bank.fill().await;
    bank.project_all().await;
    let teller = bank.teller();
    all_taken(&teller, accounts.iter().map(|account| deposit(*account)).collect()).await;
    let ports = bank.ports();
    // No process may become the conductor, who would lift the seal.
    let (conductor, visitor) = (LeaseName("balance/conductor".into()), Holder("visitor".into()));
    ports.leases.acquire(&conductor, &visitor, LATE_FOR * 2, Epoch::NONE).await.unwrap().unwrap();
    let active = ports.index.generations().await.unwrap().active.unwrap();
    let seal = Seal(teller.ids().commit().uuid());
    ports.index.seal(active, seal).await.unwrap();

    let _projector = bank.start(Role::Projector);
    let late = Bill::of(&bank.world, sleep(LATE_FOR)).await;
    late.assert_without(&["store.read_streams"]);
    late.assert_at_most(&[bound("index.apply", 504, "a seal is met every 200 ms, and at first more often")]);
    ports.index.unseal(active, seal).await.unwrap();
    let bill = Bill::of(&bank.world, bank.rest()).await;
    bill.assert_beside_upkeep(&[bound(DOCUMENTS, ACCOUNTS as u64, "each account has one event more")]);
}

#[tokio::test(start_paused = true)]
async fn an_event_does_not_wait_for_a_checkpoint_that_is_being_written() {
    let bank = Bank::new(1);
    let (_forwarder, _projector, teller) = (bank.start(Role::Forwarder), bank.start(Role::Projector), bank.teller());
    let account = opened(&teller, 1).await[0];
    bank.rest().await;
    bank.world.slow_checkpoints(Duration::from_secs(10));
    for _ in 0..3 {
        // Long enough for a checkpoint to have begun, which covers the last event.
        sleep(Duration::from_secs(1)).await;
        all_taken(&teller, vec![deposit(account)]).await;
        let began = Instant::now();
        bank.rest().await;
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(1), "shown after {waited:?}");
    }
}
