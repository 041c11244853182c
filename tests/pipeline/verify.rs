use std::path::Path;
use std::time::Duration;

use balance_service::rebuild::{Job, JobFile, JobId, JobState, Purpose};
use balance_service::verify::Fault;
use shared::coordinate::Version;
use shared::id::AccountId;
use shared::index::{Balance, BalanceIndex, Projected};
use shared::lease::LeaseStore;
use shared::money::Money;
use shared::owner::Owner;

use crate::bank::{Bank, IMPATIENT, LEASE_TTL, until};

/// When a conductor has begun to verify. If it takes longer, less is tested, and nothing fails.
const BEGUN_WITHIN: Duration = Duration::from_millis(500);

async fn write(bank: &Bank, balance: Balance) {
    let projected = Projected { balances: vec![balance], ..Projected::default() };
    bank.ports.index.apply(bank.active().await, &projected).await.unwrap();
}

/// Goal: each kind of damage to a document is found, named and counted once, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_damage_is_found_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (bank, accounts) = Bank::start_without_projection(folder.path(), 1..30).await;

    let right: Vec<Balance> = vec![
        bank.visible(accounts[0]).await.unwrap(),
        bank.visible(accounts[1]).await.unwrap(),
        bank.visible(accounts[2]).await.unwrap(),
    ];
    let generation = bank.active().await;
    let wrong = Balance { balance: Money::new(31).unwrap(), ..right[0].clone() };
    let renamed = Balance { owner: Owner::new("Mallory").unwrap(), ..right[1].clone() };
    bank.ports.index.repair(generation, vec![wrong, renamed]).await.unwrap();
    write(&bank, Balance { version: Version::new(9), ..right[2].clone() }).await;
    let orphan = AccountId::from_bytes([7; 16]);
    write(&bank, Balance { id: orphan, ..right[0].clone() }).await;
    bank.deposit(accounts[3], 1).await;
    let missing = bank.opened(5).await;

    let verification = bank.verify(IMPATIENT).await;
    let mut found: Vec<(AccountId, Fault)> = verification.findings.iter().map(|f| (f.account, f.fault)).collect();
    found.sort_unstable();
    let mut planted = vec![
        (accounts[0], Fault::Diverged),
        (accounts[1], Fault::Diverged),
        (accounts[2], Fault::Ahead),
        (accounts[3], Fault::Behind),
        (missing, Fault::Missing),
        (orphan, Fault::Orphan),
    ];
    planted.sort_unstable();
    assert_eq!(found, planted);
    let finding = verification.findings.iter().find(|finding| finding.account == accounts[0]).unwrap();
    assert_eq!(finding.detail, "balance is 31, the store says 1");
    assert!(!format!("{verification:?}").contains("Mallory"));
}

/// Kills a bank and starts it again, under leases that last this long, with a job whose generation holds one wrong
/// document, and whose next step is the verification.
async fn verifying_a_damaged_generation(
    folder: &Path,
    bank: Bank,
    right: &Balance,
    lease_ttl: Duration,
) -> (Bank, JobId) {
    let active = bank.active().await;
    bank.kill().await;
    let mut bank = Bank::open(folder).await;
    let damaged = bank.ports.index.create().await.unwrap();
    let wrong = Balance { balance: Money::new(11).unwrap(), ..right.clone() };
    let projected = Projected { balances: vec![wrong], ..Projected::default() };
    bank.ports.index.apply(damaged, &projected).await.unwrap();
    let id = JobId(bank.ids.commit().uuid());
    let job = Job::new(id, Purpose::Rebuild, Some(active), bank.clock.now());
    let job = Job { generation: Some(damaged), state: JobState::Verifying, ..job };
    let file = JobFile::load(&bank.ports.store).await.unwrap();
    file.save(&bank.ports.store, job).await.unwrap();
    bank.start_forwarder();
    bank.start_projection_leasing("one", lease_ttl);
    (bank, id)
}

/// Goal: a rebuild that is cancelled while it verifies does not keep the next one waiting until all is verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_that_nobody_waits_for_any_more_ends() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let account = bank.opened(10).await;
    bank.wait_until_settled(&[account]).await;
    let right = bank.visible(account).await.unwrap();
    // The wrong document is read again and again for hours, and the next job waits for its end as long as a test may.
    let hour = Duration::from_hours(1);
    let (bank, id) = verifying_a_damaged_generation(folder.path(), bank, &right, hour).await;
    until("somebody conducts the job", async || !bank.ports.leases.list("balance/conductor").await.unwrap().is_empty())
        .await;
    tokio::time::sleep(BEGUN_WITHIN).await;
    let cancelled = bank.rebuilds.cancel().await.unwrap();
    assert_eq!((cancelled.job.id, cancelled.job.state), (id, JobState::Cancelled));
    bank.rebuild().await;
    bank.wait_until_settled(&[account]).await;
}

/// Goal: one changed field in the new generation blocks the switch; queries still get the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_differs_from_the_store_is_never_switched_to() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(folder.path()).await;
    let account = bank.opened(10).await;
    bank.wait_until_settled(&[account]).await;
    let (right, active) = (bank.visible(account).await.unwrap(), bank.active().await);
    let (bank, id) = verifying_a_damaged_generation(folder.path(), bank, &right, LEASE_TTL).await;

    let failed = bank.wait_for_job().await;
    assert_eq!((failed.job.id, failed.job.state), (id, JobState::Failed));
    let verification = failed.job.verification.unwrap();
    assert_eq!((verification.diverged, verification.findings[0].account), (1, account));
    assert_eq!(bank.active().await, active);
    assert_eq!(bank.visible(account).await.unwrap(), right);
    until("the damaged generation is discarded", async || {
        bank.ports.index.generations().await.unwrap().all == [active]
    })
    .await;
}
