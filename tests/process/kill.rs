//! `kill -9` under load, again and again: what was acknowledged is there, once, and the projection agrees.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::clock::{Clock, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bank::Bank;
use crate::customers::customer::{Customer, open_accounts};
use crate::customers::desks::Desks;
use crate::customers::journal::Journal;
use crate::customers::verdict::Case;
use crate::customers::{get, observer, rebuild};

/// How often the process is killed unless `BANK_KILL_ROUNDS` says otherwise.
const ROUNDS: usize = 20;

/// How many customers send commands at once.
const CUSTOMERS: usize = 8;

/// How many accounts they share: few enough that two customers often use the same one.
const ACCOUNTS: usize = 12;

/// What each account holds at the beginning.
const OPENING: i64 = 5_000;

/// How many acknowledgements lie between two kills: so some kills come soon after the start, some under full load.
const ACKNOWLEDGED_BETWEEN: std::ops::Range<usize> = 1..250;

/// One round of this many begins with a rebuild, so that kills hit it at work.
const REBUILD_EVERY: usize = 2;

/// One round of this many ends as soon as its rebuild has begun: that of so few accounts takes some 35 ms, and is often
/// over before a kill that waits for acknowledgements.
const KILLED_AT_ONCE_EVERY: usize = 4;

fn rounds() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the size of a test is no setting of the bank")]
    let asked = std::env::var("BANK_KILL_ROUNDS");
    asked.map_or(ROUNDS, |text| text.parse().expect("BANK_KILL_ROUNDS is a number"))
}

/// Whether the last rebuild had not ended by then.
async fn was_rebuilding(view: &str, then: Timestamp) -> bool {
    let job = get(&format!("{view}/balance/rebuild/status")).await;
    let finished: Option<Timestamp> = serde_json::from_value(job["finished_at"].clone()).unwrap();
    job["purpose"] == "rebuild" && finished.is_none_or(|finished| finished > then)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_once_and_the_projection_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let mut bank = Bank::start(folder.path()).await;
    let journal = Arc::new(Journal::default());
    let desks = Desks::new(vec![bank.account_url("")]);
    let view = bank.balance_url("");
    // Wait for the first view: kills in quick succession could otherwise leave the observer nothing to see.
    get(&format!("{view}/balance?limit=1")).await;
    let accounts = open_accounts(&desks, &journal, ACCOUNTS, OPENING).await;

    let stop = CancellationToken::new();
    let mut customers = JoinSet::new();
    // All the time: every kill is to come under full load.
    let hurry = watch::channel(true).1;
    for number in 0..CUSTOMERS {
        let customer = Customer::new(number, &desks, accounts.clone(), Arc::clone(&journal), hurry.clone());
        customers.spawn(customer.trade(stop.clone()));
    }
    let mut observers = JoinSet::new();
    observers.spawn(observer::watch(vec![view.clone()], accounts.clone(), stop.clone()));

    let mut random = StdRng::seed_from_u64(9);
    let (clock, mut met) = (Clock::system(), 0);
    for round in 0..rounds() {
        let has_rebuild = round % REBUILD_EVERY == 0;
        if has_rebuild {
            rebuild::request(&view).await;
        }
        if round % KILLED_AT_ONCE_EVERY != 0 {
            journal.wait_for_more(random.random_range(ACKNOWLEDGED_BETWEEN)).await;
        }
        let killed = clock.now();
        bank.kill_and_restart().await;
        if has_rebuild {
            met += usize::from(was_rebuilding(&view, killed).await);
        }
    }
    stop.cancel();
    while let Some(ended) = customers.join_next().await {
        ended.unwrap();
    }
    let sightings = observers.join_next().await.unwrap().unwrap();
    assert!(sightings > 0, "the observer saw nothing, so it proved nothing");
    assert!(met > 0, "no kill met a rebuild");

    let case = Case { journal: &journal, accounts: &accounts, desks: &desks, views: std::slice::from_ref(&view) };
    case.check().await;
    case.check_parked().await;
    rebuild::prove(&view).await;
    case.check_repeats().await;
    case.check().await;
    assert!(bank.stop().await.success());
}
