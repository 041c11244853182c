//! Comparing in this process, on the backends that the settings name.

use std::time::Duration;

use balance_service::verify::{Check, PartitionReport, Verifier};
use futures::StreamExt;
use shared::backends::AnyBackends;
use shared::clock::Clock;
use shared::id::Ids;
use shared::partition::{Partition, PartitionMap};
use shared::telemetry::init_logs;

use super::VerifyArgs;
use super::screen::Screen;
use crate::exit::Exit;

/// How often the screen is told how far it is.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Compares; answers the exit code if that cannot be done for a reason that has one.
pub(super) async fn compare(
    args: &VerifyArgs,
    screen: &mut Screen,
) -> anyhow::Result<Result<Vec<PartitionReport>, Exit>> {
    init_logs(&args.settings.logs)?;
    let map = PartitionMap::new(args.settings.pipeline.partitions)?;
    let partitions: Vec<Partition> = match args.partitions() {
        Some(asked) => asked.into_iter().map(Partition::new).collect(),
        None => map.all().collect(),
    };
    if let Some(strange) = partitions.iter().find(|partition| partition.get() > map.partitions()) {
        eprintln!("bank: there is no partition {}, only 1 to {}", strange.get(), map.partitions());
        return Ok(Err(Exit::Usage));
    }
    let clock = Clock::system();
    let backends = match AnyBackends::open(&args.settings.backends, map, &clock, &Ids::new(clock.clone())).await {
        Ok(backends) => backends,
        Err(failure) if failure.is_in_use() => {
            let address = args.settings.services.balance_addr;
            eprintln!("bank: {failure}; ask the bank that is open: bank verify --url http://{address}");
            return Ok(Err(Exit::DataInUse));
        }
        Err(failure) => return Err(failure.into()),
    };
    let check = Check { partitions, patience: args.patience(), repair: args.repair };
    let mut running = Verifier::new(backends, map).begin(check).expect("nobody else asks this verifier");
    let mut reports = Vec::new();
    loop {
        tokio::select! {
            biased;
            report = running.reports.next() => match report {
                Some(report) => {
                    reports.push(report?);
                    screen.partition_done();
                }
                None => return Ok(Ok(reports)),
            },
            () = tokio::time::sleep(SHOW_EVERY) => {}
        }
        screen.show(running.progress.accounts());
    }
}
