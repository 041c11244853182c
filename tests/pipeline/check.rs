//! The check of the active view: a difference that is only in transit is not reported, one that stays is, and a repair
//! writes what the store says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use account_service::account::Command;
use account_service::command::{Request, Teller};
use balance_service::verify::{Accounts, Fault, PartitionReport, SUSPECTS_MAX, Scope, Verification};
use futures::future::join_all;
use shared::coordinate::{Epoch, Version};
use shared::id::{AccountId, Ids};
use shared::index::{Balance, BalanceIndex, Generation, Projected, Seal};
use shared::lease::{Holder, LeaseName, LeaseStore};
use shared::money::{Amount, Money};
use shared::owner::Owner;
use shared::partition::Partition;
use shared::store::{EmbeddedStore, Registers};
use tokio::task::JoinSet;

use crate::bank::{Bank, IMPATIENT, LEASE_TTL, until};

/// Long enough for anything in transit, on a machine that is busy with other tests.
const PATIENT: Duration = Duration::from_secs(30);

/// How often the view is checked while commands run, at least.
const CHECKS: usize = 12;

/// How many commands run meanwhile, at least.
const COMMANDS: usize = 3_000;

fn total(reports: &[PartitionReport]) -> Verification {
    let mut total = Verification::default();
    for report in reports {
        total.merge(report.found.clone());
    }
    total
}

fn faults(verification: &Verification) -> Vec<(AccountId, Fault)> {
    let mut faults: Vec<_> = verification.findings.iter().map(|found| (found.account, found.fault)).collect();
    faults.sort_unstable();
    faults
}

/// What a customer needs for its work.
#[derive(Clone)]
struct Customer {
    teller: Teller<EmbeddedStore>,
    accounts: Vec<AccountId>,
    ids: Ids,
    busy: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Customer {
    /// Deposits, and opens accounts now and then, until told to stop.
    async fn trade(self) {
        while self.busy.load(Ordering::Relaxed) {
            let number = self.done.fetch_add(1, Ordering::Relaxed);
            let command = if number.is_multiple_of(7) {
                Command::Open {
                    account: self.ids.account(),
                    owner: Owner::new("Maria").unwrap(),
                    currency: "EUR".parse().unwrap(),
                    opening: None,
                    overdraft_limit: None,
                }
            } else {
                let account = self.accounts[number % self.accounts.len()];
                Command::Deposit { account, amount: Amount::new(1).unwrap() }
            };
            self.teller.execute(Request { command, key: None, if_match: None }).await.unwrap();
        }
    }
}

/// Goal: no check reports a difference while commands run as fast as they can, accounts are opened, and the bank
/// switches twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_under_traffic_raises_no_false_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let mut accounts = Vec::new();
    for _ in 0..50 {
        accounts.push(bank.opened(1).await);
    }
    let customer = Customer {
        teller: bank.teller.clone(),
        accounts,
        ids: bank.ids.clone(),
        busy: Arc::new(AtomicBool::new(true)),
        done: Arc::default(),
    };
    let mut customers = JoinSet::new();
    for _ in 0..8 {
        customers.spawn(customer.clone().trade());
    }
    let checking = async {
        let mut checks = 0;
        while checks < CHECKS || customer.done.load(Ordering::Relaxed) < COMMANDS {
            let reports = bank.check(PATIENT, checks % 2 == 1).await;
            assert!(total(&reports).is_clean(), "{reports:?}");
            assert!(reports.iter().all(|report| report.repaired == 0 && report.left.is_none()), "{reports:?}");
            assert!(total(&reports).checked >= 50);
            checks += 1;
        }
    };
    let rebuilding = async {
        bank.rebuild().await;
        bank.rebuild().await;
    };
    tokio::join!(checking, rebuilding);
    customer.busy.store(false, Ordering::Relaxed);
    customers.join_all().await;
}

/// Holds the partition of an account as a process does that was killed: until the lease expires.
async fn hold_as_killed(bank: &Bank, account: AccountId) {
    let name = LeaseName(format!("balance/partition/{}", bank.partitions.partition_of(&account).get()).into());
    let killed = Holder("killed".into());
    drop(bank.ports.leases.acquire(&name, &killed, LEASE_TTL, Epoch::NONE).await.unwrap());
}

/// Goal: a document that is behind while its partition has no worker is not reported if it catches up within the
/// patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_late_but_within_the_patience_is_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bank, accounts) = Bank::start_without_projection(folder.path(), [5]).await;
    let account = accounts[0];
    bank.deposit(account, 1).await;
    let reports = bank.check(IMPATIENT, false).await;
    assert_eq!(faults(&total(&reports)), [(account, Fault::Behind)]);

    // It has to expire before the partition has a worker again.
    hold_as_killed(&bank, account).await;
    bank.start_projection("two");
    let reports = bank.check(PATIENT, false).await;
    assert!(total(&reports).is_clean(), "{reports:?}");
}

/// Goal: a late view that makes progress is waited for beyond the patience, while a document that makes none is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_comes_nearer_is_waited_for_and_what_stands_still_in_it_is_found() {
    const PATIENCE: Duration = Duration::from_secs(3);
    // Far below the patience, so that a machine that stands still for a while ends no wait; and still more than a
    // patience in all, since one of the four partitions has ten documents or more to come.
    const STEP: Duration = Duration::from_millis(375);
    let folder = tempfile::tempdir().unwrap();
    let (bank, accounts) = Bank::start_without_projection(folder.path(), 1..=40).await;
    let documents = async || {
        let visible = join_all(accounts.iter().map(|account| bank.visible(*account))).await;
        visible.into_iter().flatten().collect::<Vec<Balance>>()
    };
    let before = documents().await;
    for account in &accounts {
        bank.deposit(*account, 1).await;
    }
    assert_eq!(total(&bank.check(IMPATIENT, true).await).behind, 40);
    let mut coming: BTreeMap<Partition, Vec<Balance>> = BTreeMap::new();
    for balance in documents().await.into_iter().filter(|balance| balance.id != accounts[0]) {
        coming.entry(bank.partitions.partition_of(&balance.id)).or_default().push(balance);
    }

    let index = &bank.ports.index;
    let late = index.create().await.unwrap();
    let written = |balances| Projected { balances, ..Projected::default() };
    index.apply(late, &written(before)).await.unwrap();
    let (old, seal) = (bank.active().await, Seal(bank.ids.commit().uuid()));
    let sealing = index.seal(old, seal).await.unwrap();
    index.promote(late, Some((old, sealing))).await.unwrap();
    let began = Instant::now();
    let coming = async {
        while coming.values().any(|balances| !balances.is_empty()) {
            tokio::time::sleep(STEP).await;
            let next = coming.values_mut().filter_map(Vec::pop).collect();
            index.apply(late, &written(next)).await.unwrap();
        }
        began.elapsed()
    };
    let (reports, came_within) = tokio::join!(bank.check(PATIENCE, false), coming);
    assert_eq!(faults(&total(&reports)), [(accounts[0], Fault::Behind)]);
    assert!(came_within > PATIENCE, "all came within the patience");
}

async fn plant(bank: &Bank, generation: Generation, balance: Balance) {
    bank.ports.index.repair(generation, vec![balance]).await.unwrap();
}

/// Goal: a repair corrects what can be repaired, without lowering a version; a document without events in the store is
/// reported and left alone. Nothing is written unless asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_writes_what_the_store_says_and_leaves_what_it_has_no_events_for() {
    let folder = tempfile::tempdir().unwrap();
    let (bank, accounts) = Bank::start_without_projection(folder.path(), 1..30).await;

    let generation = bank.active().await;
    let right = join_all(accounts[..2].iter().map(|account| bank.visible(*account))).await;
    let [diverged, ahead] = [right[0].clone().unwrap(), right[1].clone().unwrap()];
    plant(&bank, generation, Balance { balance: Money::new(31).unwrap(), ..diverged.clone() }).await;
    plant(&bank, generation, Balance { version: Version::new(9), ..ahead.clone() }).await;
    let orphan = AccountId::from_bytes([7; 16]);
    plant(&bank, generation, Balance { id: orphan, ..diverged.clone() }).await;
    bank.deposit(accounts[2], 1).await;
    let missing = bank.opened(5).await;
    let mut planted = vec![
        (accounts[0], Fault::Diverged),
        (accounts[1], Fault::Ahead),
        (accounts[2], Fault::Behind),
        (missing, Fault::Missing),
        (orphan, Fault::Orphan),
    ];
    planted.sort_unstable();

    let looked = bank.check(IMPATIENT, false).await;
    assert_eq!(faults(&total(&looked)), planted);
    assert!(looked.iter().all(|report| report.repaired == 0 && report.left.is_none()));
    let partitions: usize = looked.iter().filter(|report| !report.is_clean()).count();
    let map = bank.partitions;
    assert!(
        looked.iter().all(|report| report
            .found
            .findings
            .iter()
            .all(|f| map.partition_of(&f.account) == report.partition))
    );

    // Whoever is asked to repair this partition is dead.
    hold_as_killed(&bank, accounts[0]).await;
    let repaired = bank.check(IMPATIENT, true).await;
    assert_eq!(faults(&total(&repaired)), planted, "a look without repair has changed something");
    assert_eq!(repaired.iter().map(|report| report.repaired).sum::<u64>(), 3);
    assert_eq!(bank.ports.store.list_registers("repair/").await.unwrap(), [], "no request is left behind");
    let mut left = Verification::default();
    for part in repaired.iter().filter_map(|report| report.left.clone()) {
        left.merge(part);
    }
    assert_eq!(repaired.iter().filter(|report| report.left.is_some()).count(), partitions);
    let mut beyond_repair = vec![(accounts[1], Fault::Ahead), (orphan, Fault::Orphan)];
    beyond_repair.sort_unstable();
    assert_eq!(faults(&left), beyond_repair);
    assert_eq!(bank.visible(accounts[0]).await.unwrap(), diverged);
    assert_eq!(bank.visible(accounts[2]).await.unwrap().version, Version::new(2));
    assert_eq!(bank.visible(missing).await.unwrap().balance, Money::new(5).unwrap());
    assert_eq!(bank.visible(accounts[1]).await.unwrap().version, Version::new(9), "a version has fallen");
}

/// Goal: a check of single accounts finds and repairs what is wrong with their documents, and leaves all others alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_accounts_finds_and_repairs_these_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (bank, accounts) = Bank::start_without_projection(folder.path(), 1..10).await;
    let generation = bank.active().await;
    let right = bank.visible(accounts[0]).await.unwrap();
    let other = Balance { balance: Money::new(32).unwrap(), ..bank.visible(accounts[1]).await.unwrap() };
    plant(&bank, generation, Balance { balance: Money::new(31).unwrap(), ..right.clone() }).await;
    plant(&bank, generation, other.clone()).await;
    let orphan = AccountId::from_bytes([7; 16]);
    plant(&bank, generation, Balance { id: orphan, ..right.clone() }).await;
    bank.deposit(accounts[2], 1).await;
    let missing = bank.opened(5).await;
    let mut planted = vec![
        (accounts[0], Fault::Diverged),
        (accounts[2], Fault::Behind),
        (missing, Fault::Missing),
        (orphan, Fault::Orphan),
    ];
    planted.sort_unstable();

    let asked = vec![accounts[0], accounts[2], accounts[3], missing, orphan];
    let scope = Scope::Accounts(Accounts::new(asked).unwrap());
    let looked = bank.check_scope(scope.clone(), IMPATIENT, false).await;
    assert_eq!((faults(&total(&looked)), total(&looked).checked), (planted.clone(), 5));
    let repaired = bank.check_scope(scope.clone(), IMPATIENT, true).await;
    assert_eq!(faults(&total(&repaired)), planted, "a look without repair has changed something");
    assert_eq!(repaired.iter().map(|report| report.repaired).sum::<u64>(), 3);
    assert_eq!(faults(&total(&bank.check_scope(scope, IMPATIENT, false).await)), [(orphan, Fault::Orphan)]);
    assert_eq!(bank.visible(accounts[0]).await.unwrap(), right);
    assert_eq!(bank.visible(accounts[1]).await.unwrap(), other, "nobody asked for this one");
}

/// Goal: a worker that has folded onto a wrong document repairs it when a check asks it to, and never writes the damage
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_repaired_stays_right_though_a_worker_had_the_damage_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bank, accounts) = Bank::start_without_projection(folder.path(), [5, 6]).await;
    let generation = bank.active().await;
    for account in &accounts {
        let right = bank.visible(*account).await.unwrap();
        plant(&bank, generation, Balance { balance: Money::new(1_000).unwrap(), ..right }).await;
    }
    // A worker that has none of the balances in memory loads them from the index.
    bank.start_projection("two");
    let reached = async |account, version| {
        let arrived = async || bank.visible(account).await.is_some_and(|b| b.version == Version::new(version));
        until("the deposit is visible", arrived).await;
        bank.visible(account).await.unwrap().balance
    };
    for account in &accounts {
        bank.deposit(*account, 1).await;
        assert_eq!(reached(*account, 2).await, Money::new(1_001).unwrap(), "the damage was not taken up");
    }

    let repaired = bank.check(IMPATIENT, true).await;
    assert_eq!(total(&repaired).diverged, 2);
    assert_eq!(repaired.iter().map(|report| report.repaired).sum::<u64>(), 2);
    for (account, right) in accounts.iter().zip([7, 8]) {
        bank.deposit(*account, 1).await;
        assert_eq!(reached(*account, 3).await, Money::new(right).unwrap(), "the damage was written again");
    }
    assert!(total(&bank.check(PATIENT, false).await).is_clean());
    assert_eq!(bank.ports.store.list_registers("repair/").await.unwrap(), [], "the request was carried out");
}

/// Goal: wrong documents are all counted and all repaired, without being kept in memory, even if there are more than
/// may wait at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_suspects_than_fit_are_judged_part_by_part() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let account = bank.opened(5).await;
    bank.wait_until_settled(&[account]).await;
    let orphan = bank.visible(account).await.unwrap();
    // All in one partition, as after a disaster that took one part of the index.
    let partition = bank.partitions.all().next().unwrap();
    let ids = (0_u32..).map(|number| {
        let mut bytes = [0xff; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        AccountId::from_bytes(bytes)
    });
    let count = SUSPECTS_MAX + 5_000;
    let ids: Vec<_> = ids.filter(|id| bank.partitions.partition_of(id) == partition).take(count).collect();
    for ids in ids.chunks(5_000) {
        let balances = ids.iter().map(|id| Balance { id: *id, ..orphan.clone() }).collect();
        let projected = Projected { balances, ..Projected::default() };
        bank.ports.index.apply(bank.active().await, &projected).await.unwrap();
    }
    let reports = bank.check(IMPATIENT, false).await;
    assert_eq!(total(&reports).orphans, count as u64);
    assert_eq!(reports[0].found.orphans, count as u64);
}
