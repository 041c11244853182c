//! What it costs to rebuild the view and to verify it, and what this work gives way to.

use std::time::Duration;

use balance_service::rebuild::JobState;
use balance_service::verify::{ACCOUNTS_MAX, Accounts, Check, Progress, Scope, check};
use futures::StreamExt;
use shared::id::AccountId;
use tokio::time::{Instant, sleep};

use super::bank::{ACCOUNTS, Bank, all_taken, deposit, opened};
use super::bill::{Bill, DOCUMENTS, bound};
use crate::fleet::{Fleet, Role};
use crate::world::random::Random;

/// One, so that its share of the events is more than one page.
const PARTITIONS: u16 = 1;

/// By then a started projector has taken its leases and has no work left.
const STARTED_WITHIN: Duration = Duration::from_secs(5);

/// A bank whose view matches the store, and whose processes have stopped.
async fn projected() -> Bank {
    projected_accounts().await.0
}

/// The same, with its accounts.
async fn projected_accounts() -> (Bank, Vec<AccountId>) {
    let bank = Bank::new(PARTITIONS);
    let accounts = bank.fill().await;
    bank.project_all().await;
    (bank, accounts)
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
        bound("store.scan", 4, "the events are two pages of 8,192, read to replay and read again to verify"),
        bound("store.heads", 1, "the accounts are one page of 4,096, read to verify"),
        bound("index.versions", 3, "their documents are one page, read to verify and read twice to switch"),
        bound("index.load", 2, "the verification loads the accounts of a page of events at once"),
        bound("index.parked", 1, "nobody is parked, and a list of nobody is one page"),
        bound("index.apply", 4, "two pages, and the beginning and the end of the replay are noted"),
        bound(DOCUMENTS, ACCOUNTS as u64, "an account is folded to its end before it is written"),
        bound("index.create", 1, "there is one new generation"),
        bound("index.prepare", 1, "there is one new generation"),
        bound("index.promote", 1, "the queries are switched once"),
        bound("index.seal", 1, "the old generation is sealed once"),
        bound("index.unseal", 1, "the old generation is sealed once"),
        bound("store.write_register", 9, "the job goes through its states, the first with two writes, and a note"),
    ]);
}

/// How often a replay is polled, and thus the precision of its measured time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long a rebuild that begins now replays, rounded up to [`LOOK_EVERY`].
async fn replay_time(projector: &Fleet) -> Duration {
    let rebuilds = projector.rebuilds(&mut Random::new(1)).expect("it was just started");
    let began = Instant::now();
    let mut job = rebuilds.start().await.expect("none is running").job;
    while job.state == JobState::Replaying {
        sleep(LOOK_EVERY).await;
        job = rebuilds.status().await.expect("there are no faults").expect("it was started").job;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_replay_gives_way_to_a_worker_that_is_late_and_to_no_other() {
    let bank = projected().await;
    let projector = bank.start(Role::Projector);
    sleep(STARTED_WITHIN).await;
    let undisturbed = replay_time(&projector).await;
    bank.rest().await;

    let backlog = bank.deposited_and_not_published().await;
    sleep(STARTED_WITHIN).await;
    let publishing = async {
        for entries in backlog.chunks(backlog.len() / 20) {
            bank.publish(entries).await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    let replaying = async {
        // The first late events are shown.
        sleep(Duration::from_secs(1)).await;
        replay_time(&projector).await
    };
    let ((), disturbed) = tokio::join!(publishing, replaying);
    let for_two_pages = Duration::from_millis(500);
    assert!(disturbed >= for_two_pages && undisturbed < for_two_pages, "{disturbed:?}, undisturbed {undisturbed:?}");
    bank.rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_generation_on_standby_is_written_to_seldom_and_is_there_when_it_is_called_for() {
    let bank = Bank::new(1);
    let _forwarder = bank.start(Role::Forwarder);
    let account = opened(&bank.teller(), 1).await[0];
    let projector = bank.start(Role::Projector);
    bank.rest().await;
    let rebuilds = projector.rebuilds(&mut Random::new(1)).expect("it was just started");
    rebuilds.start().await.unwrap();
    bank.rest().await;

    let teller = bank.teller();
    let busy = Bill::of(&bank.world, async {
        for _ in 0..100 {
            all_taken(&teller, vec![deposit(account)]).await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    busy.await.assert_at_most(&[
        bound(DOCUMENTS, 107, "each of 100 deposits is shown at once, and is written every 2 s for a rollback"),
        bound("index.apply", 212, "the same, and a checkpoint is noted behind each"),
    ]);

    all_taken(&teller, vec![deposit(account)]).await;
    let began = Instant::now();
    rebuilds.rollback().await.unwrap();
    while rebuilds.status().await.unwrap().is_some_and(|status| status.job.state.is_running()) {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    bank.rest().await;
}

/// Goal: however many services there are, the view is verified once an interval.
#[tokio::test(start_paused = true)]
async fn two_services_together_verify_the_view_once_an_interval() {
    const EVERY: Duration = Duration::from_mins(4);
    // Each verification begins within the interval, the delay of at most an eighth of it, and the minute between two
    // looks after the one before: the second has ended by then, and the third one cannot begin before 720 s.
    const TWO_DONE: Duration = Duration::from_secs(2 * (240 + 30 + 60) + 20);
    let bank = projected().await;
    let services = [bank.start_verifying(EVERY), bank.start_verifying(EVERY)];
    let bill = Bill::of(&bank.world, sleep(TWO_DONE)).await;
    bill.assert_at_most(&[
        bound("store.scan", 4, "the events are two pages of 8,192, read by each of two verifications"),
        bound("index.load", 4, "the accounts of a page of events are loaded at once"),
    ]);
    for service in services {
        service.stop(0).await.unwrap();
    }
}

/// What it costs to compare every document of a bank in which all are right.
async fn cost_of_a_check(bank: &Bank) -> Bill {
    cost_of_comparing(bank, Scope::Partitions(bank.partitions().all().collect()), ACCOUNTS).await
}

/// What it costs to compare this many documents, which are all right.
async fn cost_of_comparing(bank: &Bank, scope: Scope, documents: usize) -> Bill {
    let what = Check { scope, patience: Duration::ZERO, repair: false };
    Bill::of(&bank.world, async {
        let reports: Vec<_> = check(bank.ports(), bank.partitions(), what, Progress::default()).collect().await;
        let checked: Vec<u64> =
            reports.into_iter().map(|report| report.expect("it is read again").found.checked).collect();
        assert_eq!(checked, [documents as u64]);
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_check_of_two_thousand_accounts_reads_pages() {
    let bank = projected().await;
    cost_of_a_check(&bank).await.assert(&[
        bound("store.scan", 2, "the 10,000 events are two pages of 8,192"),
        bound("index.load", 2, "the documents of a page's accounts are loaded at once"),
        bound("store.heads", 1, "the accounts are one page of 4,096"),
        bound("index.versions", 1, "the documents are one page of 4,096"),
        bound("index.generations", 2, "the active generation must be the same at the beginning and at the end"),
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_check_of_a_hundred_accounts_reads_their_streams_and_documents_and_no_others() {
    let (bank, accounts) = projected_accounts().await;
    let asked = Accounts::new(accounts[..ACCOUNTS_MAX].to_vec()).expect("not too many");
    cost_of_comparing(&bank, Scope::Accounts(asked), ACCOUNTS_MAX).await.assert(&[
        bound("store.read_streams", 2, "the streams are read for their heads, and once more beside their documents"),
        bound("index.load", 1, "the documents are loaded at once"),
        bound("index.generations", 2, "the active generation must be the same at the beginning and at the end"),
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_check_makes_a_read_that_fails_again_and_none_before_it() {
    let bank = projected().await;
    for (failing, scans, loads, heads, versions) in [
        ("store.scan", 3, 2, 1, 1),
        ("index.load", 2, 3, 1, 1),
        ("store.heads", 2, 2, 2, 1),
        ("index.versions", 2, 2, 1, 2),
    ] {
        bank.world.fail_next(failing);
        cost_of_a_check(&bank).await.assert(&[
            bound("store.scan", scans, "the events are two pages"),
            bound("index.load", loads, "they are loaded once for each page"),
            bound("store.heads", heads, "they are one page"),
            bound("index.versions", versions, "they are one page"),
            bound("index.generations", 2, "the active generation is looked up first and last"),
        ]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_reads_the_stream_of_a_suspect_again_if_that_fails() {
    let (bank, accounts) = projected_accounts().await;
    all_taken(&bank.teller(), vec![deposit(accounts[0])]).await;
    bank.world.fail_next("store.read_streams");
    cost_of_a_check(&bank).await.assert(&[
        bound("store.scan", 2, "the 10,001 events are two pages of 8,192"),
        bound("index.load", 4, "they are loaded once for each page, and the one that is behind for each of two looks"),
        bound("store.read_streams", 3, "the stream of the one that is behind is read for each look, and once in vain"),
        bound("store.heads", 1, "the accounts are one page"),
        bound("index.versions", 1, "the documents are one page"),
        bound("index.generations", 2, "the active generation is looked up first and last"),
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_check_of_accounts_reads_their_streams_again_if_that_fails() {
    let (bank, accounts) = projected_accounts().await;
    let asked = Accounts::new(accounts[..ACCOUNTS_MAX].to_vec()).expect("not too many");
    bank.world.fail_next("store.read_streams");
    cost_of_comparing(&bank, Scope::Accounts(asked), ACCOUNTS_MAX).await.assert(&[
        bound("store.read_streams", 3, "for their heads, beside their documents, and once in vain"),
        bound("index.load", 1, "the documents are loaded at once"),
        bound("index.generations", 2, "the active generation is looked up first and last"),
    ]);
}
