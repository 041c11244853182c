use std::path::Path;

use balance_service::parking::{ParkingError, parked, retry};
use balance_service::rebuild::JobState;
use bytes::Bytes;
use shared::coordinate::Version;
use shared::event::EncodedEvents;
use shared::id::AccountId;
use shared::index::{Balance, BalanceIndex, Generation, Parked, Projected};
use shared::store::{Appended, Commit, EventStore, StreamWrite};

use crate::bank::{Bank, until};

/// Appends an event that no release can read.
async fn poison(bank: &Bank, account: AccountId, expected: Version) {
    let event = serde_json::json!([{
        "id": bank.ids.event(), "type": "MoneyMinted", "schema": 9, "time": bank.clock.now(), "data": {}
    }]);
    let events = EncodedEvents { count: 1, json: Bytes::from(event.to_string()) };
    let writes = vec![StreamWrite { stream: account, expected, events }];
    let commit = Commit { id: bank.ids.commit(), time: bank.clock.now(), key: None, receipt: Bytes::new(), writes };
    let fate = bank.ports.store.append(vec![commit]).await.pop().unwrap();
    assert_eq!(fate.unwrap(), Appended::New);
}

/// Parks an account as an older release would have: at an event which this release can read.
async fn park(bank: &Bank, account: AccountId, at: Version) {
    let entry = Parked { account, at, reason: "unknown to that release".into(), since: bank.clock.now() };
    let projected = Projected { parked: vec![entry], ..Projected::default() };
    bank.ports.index.apply(bank.active().await, &projected).await.unwrap();
}

/// Goal: one unreadable event stops its account at the version before it, visibly, and no other account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_event_parks_its_account_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let (sick, healthy) = (bank.opened(10).await, bank.opened(20).await);
    poison(&bank, sick, Version::new(1)).await;
    // Every partition gets traffic after the poison.
    let mut others = vec![healthy];
    for money in 1..20 {
        others.push(bank.opened(money).await);
    }
    for account in &others {
        bank.deposit(*account, 5).await;
        until("the healthy accounts move on", async || {
            bank.visible(*account).await.is_some_and(|balance| balance.version == Version::new(2))
        })
        .await;
    }
    until("the sick account is parked", async || !parked(&bank.ports, None, 10).await.unwrap().is_empty()).await;
    let entries = parked(&bank.ports, None, 10).await.unwrap();
    assert_eq!(entries.iter().map(|parked| (parked.account, parked.at)).collect::<Vec<_>>(), [(sick, Version::new(2))]);
    assert!(entries[0].reason.contains("MoneyMinted"), "{}", entries[0].reason);
    assert_eq!(bank.visible(sick).await.unwrap().version, Version::new(1));
    let refused = retry(&bank.ports, &bank.clock, sick).await;
    assert!(matches!(refused, Err(ParkingError::StillPoison(ref parked)) if parked.at == Version::new(2)));
    assert!(matches!(retry(&bank.ports, &bank.clock, healthy).await, Err(ParkingError::NotParked)));
    // A rebuild meets the same poison, parks the same account, and still passes its verification.
    let rebuilt = bank.rebuild().await;
    assert_eq!(rebuilt.job.verification.unwrap().parked, 1);
    assert_eq!(bank.visible(sick).await.unwrap().version, Version::new(1));
}

/// Goal: one request unparks an account that can be folded again, and folds the events that waited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_unparked_catches_up_and_moves_on() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let account = bank.opened(10).await;
    bank.wait_until_settled(&[account]).await;
    park(&bank, account, Version::new(2)).await;
    // The worker caches the balance it wrote, so only a new owner sees the entry: restart.
    bank.kill().await;
    let bank = Bank::start(folder.path()).await;
    let marker = bank.opened(1).await;
    bank.deposit(account, 5).await;
    bank.deposit(marker, 5).await;
    until("other accounts move on", async || {
        bank.visible(marker).await.is_some_and(|balance| balance.version == Version::new(2))
    })
    .await;
    assert_eq!(bank.visible(account).await.unwrap().version, Version::new(1));
    let unparked = retry(&bank.ports, &bank.clock, account).await.unwrap();
    assert_eq!(unparked.version, Version::new(2));
    bank.deposit(account, 5).await;
    bank.wait_until_settled(&[account, marker]).await;
    assert!(parked(&bank.ports, None, 10).await.unwrap().is_empty());
}

/// A bank, an account that is parked in its first generation alone, as an older release would have parked it at its
/// second event, and that generation.
async fn parked_before_a_rebuild(folder: &Path) -> (Bank, AccountId, Generation) {
    let bank = Bank::start(folder).await;
    let account = bank.opened(10).await;
    bank.wait_until_settled(&[account]).await;
    let first = bank.active().await;
    park(&bank, account, Version::new(2)).await;
    // The worker caches the balance it wrote, so only a new owner sees the entry: restart.
    bank.kill().await;
    let bank = Bank::start(folder).await;
    bank.deposit(account, 5).await;
    bank.rebuild().await;
    (bank, account, first)
}

/// Goal: an account that an older release has parked in the generation which it fed keeps nobody from going back to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_takes_along_an_account_that_was_parked_and_can_be_folded_now() {
    let folder = tempfile::tempdir().unwrap();
    let (bank, account, first) = parked_before_a_rebuild(folder.path()).await;
    bank.deposit(account, 5).await;
    bank.wait_until_settled(&[account]).await;
    let kept = bank.ports.index.load(first, &[account]).await.unwrap();
    assert_eq!((kept[0].version(), kept[0].parked_at()), (Version::new(1), Some(Version::new(2))));

    bank.rebuilds.rollback().await.unwrap();
    let job = bank.wait_for_job().await.job;
    assert_eq!((job.state, job.failure), (JobState::Done, None));
    assert_eq!(bank.active().await, first);
    assert_eq!(bank.visible(account).await.unwrap().version, Version::new(3));
    assert!(parked(&bank.ports, None, 10).await.unwrap().is_empty());
    bank.deposit(account, 5).await;
    bank.wait_until_settled(&[account]).await;
}

/// Goal: an account that a rollback brings forward to another event that cannot be folded is parked there, and not at
/// the event where an older release has parked it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_parks_an_account_anew_where_it_cannot_be_folded_any_further() {
    let folder = tempfile::tempdir().unwrap();
    let (bank, account, first) = parked_before_a_rebuild(folder.path()).await;
    poison(&bank, account, Version::new(2)).await;
    until("the account is parked", async || !parked(&bank.ports, None, 10).await.unwrap().is_empty()).await;

    bank.rebuilds.rollback().await.unwrap();
    let job = bank.wait_for_job().await.job;
    assert_eq!((job.state, job.failure, bank.active().await), (JobState::Done, None, first));
    assert_eq!(bank.visible(account).await.unwrap().version, Version::new(2));
    let entries = parked(&bank.ports, None, 10).await.unwrap();
    assert_eq!(entries.iter().map(|entry| (entry.account, entry.at)).collect::<Vec<_>>(), [(account, Version::new(3))]);
    assert!(entries[0].reason.contains("MoneyMinted"), "{}", entries[0].reason);
}

/// Goal: a rollback that cannot be made says which account is in its way, and why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_that_would_hide_what_cannot_be_folded_names_the_account_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let account = bank.opened(10).await;
    bank.wait_until_settled(&[account]).await;
    bank.rebuild().await;
    poison(&bank, account, Version::new(1)).await;
    until("the account is parked", async || !parked(&bank.ports, None, 10).await.unwrap().is_empty()).await;
    // As a release that knows the event would have left it.
    let seen = Balance { version: Version::new(2), ..bank.visible(account).await.unwrap() };
    let projected = Projected { balances: vec![seen], ..Projected::default() };
    let active = bank.active().await;
    bank.ports.index.apply(active, &projected).await.unwrap();

    bank.rebuilds.rollback().await.unwrap();
    let job = bank.wait_for_job().await.job;
    let failure = job.failure.unwrap();
    let expected = format!(
        "account {account} stands at v1 where readers have seen v2; it is parked there, since event v2 cannot be folded"
    );
    assert_eq!(job.state, JobState::Failed, "{failure}");
    assert!(failure.starts_with(&expected) && failure.contains("MoneyMinted"), "{failure}");
    assert_eq!((bank.active().await, bank.visible(account).await.unwrap().version), (active, Version::new(2)));
}
