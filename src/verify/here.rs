//! Compares in this process, on the backends that the settings name.

use std::time::Duration;

use anyhow::ensure;
use balance_service::verify::{Accounts, Check, PartitionReport, Running, Scope, Verifier};
use futures::StreamExt;
use shared::backends::{AnyBackends, OpenBackendsError};
use shared::clock::Clock;
use shared::config::{BackendSettings, StoreUrl};
use shared::id::Ids;
use shared::partition::{Partition, PartitionMap};
use shared::process::BeginError;
use shared::sqlite::OpenError;
use shared::store::EmbeddedStore;
use shared::telemetry::init_logs;

use super::VerifyArgs;
use super::screen::Screen;
use crate::exit::{CodedFailure, Exit};

/// How often the screen shows progress.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Compares in this process.
pub(super) async fn compare(
    args: &VerifyArgs,
    accounts: Option<Accounts>,
    screen: &mut Screen,
) -> anyhow::Result<Vec<PartitionReport>> {
    init_logs(&args.settings.logs)?;
    let map = PartitionMap::new(args.settings.pipeline.partitions)?;
    let scope = match accounts {
        Some(accounts) => Scope::Accounts(accounts),
        None => Scope::Partitions(partitions(args, map)?),
    };
    require_bank(&args.settings.backends)?;
    let backends = open(&args.settings.backends, map).await?;
    let check = Check { scope, patience: args.patience(), repair: args.repair };
    let running = Verifier::new(backends, map).begin(check).expect("nobody else asks this verifier");
    reports_of(running, screen).await
}

/// The partitions to compare; one that the bank does not have is refused.
fn partitions(args: &VerifyArgs, map: PartitionMap) -> Result<Vec<Partition>, CodedFailure> {
    let Some(asked) = args.partitions() else { return Ok(map.all().collect()) };
    if let Some(strange) = asked.iter().find(|number| **number > map.partitions()) {
        let told = format!("there is no partition {strange}, only 1 to {}", map.partitions());
        return Err(CodedFailure::new(Exit::Usage, told));
    }
    Ok(asked.into_iter().map(Partition::new).collect())
}

/// Opens the backends, or says what works if another process uses the data folder.
async fn open(settings: &BackendSettings, map: PartitionMap) -> anyhow::Result<AnyBackends> {
    let clock = Clock::system();
    let ids = Ids::new(clock.clone());
    match AnyBackends::open_existing(settings, map, &clock, &ids).await {
        Ok(backends) => Ok(backends),
        Err(OpenBackendsError::File(OpenError::InUse { path, holder })) => {
            // The folder does not say where that process listens, and the default address may be another bank's.
            let told = format!(
                "data folder {} is in use by {holder}; run bank verify --url with the address of the balance service \
                 of the bank that uses it",
                path.display()
            );
            Err(CodedFailure::new(Exit::DataInUse, told).into())
        }
        Err(failure) => Err(BeginError::Backends(failure).into()),
    }
}

/// Waits for the reports of all partitions, and shows progress meanwhile.
async fn reports_of(mut running: Running, screen: &mut Screen) -> anyhow::Result<Vec<PartitionReport>> {
    let mut reports = Vec::new();
    loop {
        tokio::select! {
            biased;
            report = running.reports.next() => match report {
                Some(report) => {
                    reports.push(report?);
                    screen.partition_done();
                }
                None => return Ok(reports),
            },
            () = tokio::time::sleep(SHOW_EVERY) => {}
        }
        screen.show(running.progress.accounts());
    }
}

/// Refuses a folder without a bank: opening it would create an empty one there. A bank that has lost its store is told
/// when it is opened.
fn require_bank(backends: &BackendSettings) -> anyhow::Result<()> {
    let BackendSettings { store_url, data, .. } = backends;
    let is_there = || EmbeddedStore::is_in(data) || EmbeddedStore::refuse_lost(data).is_err();
    ensure!(
        *store_url != StoreUrl::Embedded || is_there(),
        "there is no bank in {}; set --data to its folder, or --url to verify a running bank",
        data.display()
    );
    Ok(())
}
