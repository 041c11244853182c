//! `bank serve`: the three services in one process, on the backends the settings name.

mod banner;
mod stages;

use std::io::Write;

use account_service::AccountServiceConfig;
use balance_service::BalanceConfig;
use forwarder::ForwarderConfig;
use shared::config::Settings;
use shared::process::{Process, until_told_to_stop};
use tokio::net::TcpListener;

use crate::exit::Exit;
use banner::Banner;
pub(crate) use stages::{Stage, run_in_stages};

/// Serves until a signal, or until a failure that the services cannot recover from.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<Exit> {
    let process = Process::begin(settings).await?;
    let account_listener = Process::listen(process.settings.services.account_addr, "--account-addr")?;
    let balance_listener = Process::listen(process.settings.services.balance_addr, "--balance-addr")?;
    let banner = Banner {
        account_address: account_listener.local_addr()?,
        balance_address: balance_listener.local_addr()?,
        backends: &process.settings.backends,
    };
    let banner = banner.to_string();
    let shutdown = process.shutdown.clone();
    let stages = open(process, account_listener, balance_listener);
    let serving = async {
        // A closed stdout is no reason not to serve.
        std::io::stdout().write_all(banner.as_bytes()).ok();
        anyhow::Ok(run_in_stages(stages, shutdown.clone()).await?)
    };
    until_told_to_stop(shutdown.clone(), serving).await?;
    Ok(Exit::Done)
}

/// Starts the services, in the order in which they are stopped: first no more commands, then no more events in transit,
/// then no more queries.
fn open(process: Process, account_listener: TcpListener, balance_listener: TcpListener) -> Vec<Stage> {
    let account = AccountServiceConfig::of(&process);
    let forwarder = ForwarderConfig::of(&process);
    let balance = BalanceConfig::of(&process);
    let (account_edge, balance_edge) = (process.edge(account_listener), process.edge(balance_listener));
    let Process { backends, clock, ids, shutdown, .. } = process;
    vec![
        Stage::start("account-service", &shutdown, |stop| {
            account_service::run(account, backends.store.clone(), clock.clone(), ids.clone(), account_edge, stop)
        }),
        Stage::start("forwarder", &shutdown, |stop| {
            let (store, log, leases) = (backends.store.clone(), backends.log.clone(), backends.leases.clone());
            forwarder::run(forwarder, store, log, leases, clock.clone(), stop)
        }),
        Stage::start("balance-service", &shutdown, |stop| {
            balance_service::run(balance, backends, clock, ids, balance_edge, stop)
        }),
    ]
}
