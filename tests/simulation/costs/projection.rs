//! What it costs to build the view anew, and to prove it.

use std::time::Duration;

use balance_service::verify::{Check, Progress, check};
use futures::StreamExt;
use tokio::time::sleep;

use super::bank::{ACCOUNTS, Bank};
use super::bill::{Bill, DOCUMENTS, bound};
use crate::fleet::Role;
use crate::world::random::Random;

/// One, so that its share of the events is more than one page.
const PARTITIONS: u16 = 1;

/// Until a projector that was started has taken its leases and has work no more.
const STARTED_WITHIN: Duration = Duration::from_secs(5);

/// A bank whose view is what the store says, and whose processes have stopped.
async fn projected() -> Bank {
    let bank = Bank::new(PARTITIONS);
    bank.fill().await;
    bank.project_all().await;
    bank
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_of_ten_thousand_events_reads_pages_and_writes_each_account_once() {
    let bank = projected().await;
    let projector = bank.start(Role::Projector);
    sleep(STARTED_WITHIN).await;
    let rebuilds = projector.rebuilds(&mut Random::new(1)).expect("it was just started");
    let bill = Bill::of(&bank.world, async {
        rebuilds.start().await.unwrap();
        bank.rest().await;
    });
    bill.await.assert_beside_upkeep(&[
        bound("store.scan", 4, "the events are two pages of 8,192, read to replay and read again to prove"),
        bound("store.heads", 1, "the accounts are one page of 4,096, read to prove"),
        bound("index.versions", 3, "their documents are one page, read to prove and read twice to switch"),
        bound("index.load", 2, "the proof loads the accounts of a page of events at once"),
        bound("index.apply", 4, "two pages, and the beginning and the end of the replay are noted"),
        bound(DOCUMENTS, ACCOUNTS as u64, "an account is folded to its end before it is written"),
        bound("index.create", 1, "there is one new generation"),
        bound("index.prepare", 1, "there is one new generation"),
        bound("index.promote", 1, "the queries are turned once"),
        bound("index.seal", 1, "the old generation is sealed once"),
        bound("index.unseal", 1, "the old generation is sealed once"),
        bound("store.write_register", 7, "the job goes through its states"),
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_check_of_two_thousand_accounts_reads_pages() {
    let bank = projected().await;
    let what = Check { partitions: bank.partitions().all().collect(), patience: Duration::ZERO, repair: false };
    let bill = Bill::of(&bank.world, async {
        let reports: Vec<_> = check(bank.ports(), bank.partitions(), what, Progress::default()).collect().await;
        let checked: Vec<u64> = reports.into_iter().map(|report| report.unwrap().found.checked).collect();
        assert_eq!(checked, [ACCOUNTS as u64]);
    });
    bill.await.assert(&[
        bound("store.scan", 2, "the 10,000 events are two pages of 8,192"),
        bound("index.load", 2, "the documents of a page's accounts are loaded at once"),
        bound("store.heads", 1, "the accounts are one page of 4,096"),
        bound("index.versions", 1, "the documents are one page of 4,096"),
        bound("index.generations", 2, "the active generation must be the same at the beginning and at the end"),
    ]);
}
