use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use account_service::account::Command;
use account_service::command::{Request, Teller};
use balance_service::rebuild::{JobState, Purpose, RebuildRefusal};
use shared::coordinate::Version;
use shared::id::AccountId;
use shared::index::{BalanceIndex, EmbeddedIndex, Seal};
use shared::money::Amount;
use shared::store::EmbeddedStore;
use shared::telemetry::metric::{LAG_EVENTS, LAG_SECONDS};
use shared::telemetry::{MetricsReader, install_metrics};
use tokio::task::JoinSet;

use crate::bank::{Bank, PARTITIONS, until};

/// Moves money round and round; returns how often.
async fn transfer_while(
    busy: Arc<AtomicBool>,
    teller: Teller<EmbeddedStore>,
    accounts: Vec<AccountId>,
    customer: usize,
) -> u64 {
    let mut transfers = 0;
    for step in 0.. {
        let (from, to) = ((customer + step) % accounts.len(), (customer + 7 * step + 1) % accounts.len());
        if !busy.load(Ordering::Relaxed) {
            break;
        }
        if from != to {
            let command = Command::Transfer { from: accounts[from], to: accounts[to], amount: Amount::new(1).unwrap() };
            teller.execute(Request { command, key: None, if_match: None }).await.unwrap();
            transfers += 1;
        }
    }
    transfers
}

/// Reads every account again and again and checks law B4; returns how often.
async fn watch_while(busy: Arc<AtomicBool>, index: EmbeddedIndex, accounts: Vec<AccountId>) -> u64 {
    let mut seen: BTreeMap<AccountId, Version> = BTreeMap::new();
    let mut reads = 0;
    while busy.load(Ordering::Relaxed) {
        for account in &accounts {
            let balance = index.get(*account).await.unwrap().expect("a visible account stays visible");
            let before = seen.insert(*account, balance.version).unwrap_or_default();
            assert!(balance.version >= before, "{account} went back from {before} to {}", balance.version);
            reads += 1;
        }
    }
    reads
}

/// Goal: rebuild twice and roll back while commands run and a reader watches. The reader must never see a balance go
/// back or vanish, and in the end the view is the fold of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_a_step_back_while_the_bank_is_rebuilt_and_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let mut accounts = Vec::new();
    for _ in 0..40 {
        accounts.push(bank.opened(1_000_000).await);
    }
    bank.wait_until_settled(&accounts).await;

    let busy = Arc::new(AtomicBool::new(true));
    let mut customers = JoinSet::new();
    for customer in 0..8 {
        customers.spawn(transfer_while(Arc::clone(&busy), bank.teller.clone(), accounts.clone(), customer));
    }
    let reader = tokio::spawn(watch_while(Arc::clone(&busy), bank.ports.index.clone(), accounts.clone()));

    let first = bank.active().await;
    let rebuilt = bank.rebuild().await;
    let second = bank.active().await;
    assert_ne!(first, second);
    assert_eq!(rebuilt.job.verification.unwrap().checked, 40);
    assert!(matches!(bank.rebuilds.cancel().await, Err(RebuildRefusal::NothingToCancel)));

    bank.rebuilds.rollback().await.unwrap();
    let rolled_back = bank.wait_for_job().await;
    assert_eq!((rolled_back.job.state, rolled_back.job.purpose), (JobState::Done, Purpose::Rollback));
    assert_eq!(bank.active().await, first);

    bank.rebuild().await;
    let generations = bank.ports.index.generations().await.unwrap();
    assert_eq!(generations.all.len(), 2, "the active and the one kept for a rollback: {generations:?}");
    assert!(generations.sealed.is_empty());

    busy.store(false, Ordering::Relaxed);
    let transfers: u64 = customers.join_all().await.into_iter().sum();
    assert!(transfers > 0 && reader.await.unwrap() > 0);
    bank.wait_until_settled(&accounts).await;
    let mut sum = 0;
    for account in &accounts {
        sum += bank.visible(*account).await.unwrap().balance.get();
    }
    assert_eq!(sum, 40 * 1_000_000);
}

/// Goal: whoever was told that a rebuild is done learns that it no longer is, as when a power cut has undone it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_whose_switch_the_index_has_lost_is_told_to_have_failed() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let (index, first) = (&bank.ports.index, bank.active().await);
    bank.rebuild().await;
    let (second, seal) = (bank.active().await, Seal(bank.ids.commit().uuid()));
    // The conductor lifts the seal of no job.
    until("the switch is undone", async || {
        let sealing = index.seal(second, seal).await.unwrap();
        index.promote(first, Some((second, sealing))).await.is_ok()
    })
    .await;
    let status = async || bank.rebuilds.status().await.unwrap().unwrap();
    until("the job has failed", async || status().await.job.state == JobState::Failed).await;
    let job = status().await.job;
    assert!(job.failure.is_some_and(|reason| reason.contains("lost the switch")));
    assert_eq!(job.keep_previous_until, None, "there is nothing to return to");
    assert_eq!(index.generations().await.unwrap().all, [first], "what it has built is discarded");
    assert_eq!(bank.active().await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_job_at_a_time_and_a_cancelled_one_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    // Without workers the job stays in a state in which it can be cancelled.
    let (mut bank, accounts) = Bank::start_without_projection(folder.path(), [10]).await;
    let account = accounts[0];
    let active = bank.active().await;
    assert!(matches!(bank.rebuilds.rollback().await, Err(RebuildRefusal::NoPrevious)));

    let started = bank.rebuilds.start().await.unwrap();
    let Err(RebuildRefusal::Running(running)) = bank.rebuilds.start().await else { panic!("two jobs at once") };
    assert_eq!(running.job.id, started.job.id);
    let cancelled = bank.rebuilds.cancel().await.unwrap();
    assert_eq!(cancelled.job.state, JobState::Cancelled);

    bank.start_projection("two");
    until("only the active generation is left", async || {
        let generations = bank.ports.index.generations().await.unwrap();
        generations.all == [active] && generations.active == Some(active)
    })
    .await;
    bank.deposit(account, 5).await;
    bank.wait_until_settled(&[account]).await;
    bank.rebuild().await;
    bank.wait_until_settled(&[account]).await;
}

/// The names and labels of all series of the lag in the partitions of this bank. The metrics are those of the process,
/// in which the bank of another test may have more partitions.
fn series_of_the_lag(metrics: &MetricsReader, bank: &Bank) -> BTreeSet<String> {
    let labels: Vec<String> = bank.partitions.all().map(|partition| format!("partition=\"{partition}\"")).collect();
    let is_of_bank = |series: &str| labels.iter().any(|label| series.contains(label));
    let is_of_lag = |series: &str| [LAG_EVENTS, LAG_SECONDS].iter().any(|lag| series.starts_with(lag.name));
    let rendered = metrics.render();
    let series = rendered.lines().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series);
    series.filter(|series| is_of_lag(series) && is_of_bank(series)).map(str::to_owned).collect()
}

/// Goal: a process that rebuilds for as long as it lives does not show more and more series.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilds_leave_no_further_series_of_metrics_behind() {
    let metrics = install_metrics().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    bank.rebuild().await;
    let after_one = series_of_the_lag(&metrics, &bank);
    assert_eq!(after_one.len(), 2 * 3 * usize::from(PARTITIONS), "two gauges, three roles: {after_one:?}");
    for _ in 0..2 {
        bank.rebuild().await;
    }
    assert_eq!(series_of_the_lag(&metrics, &bank), after_one);
}
