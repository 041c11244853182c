//! `bank serve`: the three services in one process, on the embedded backends.

mod backends;
mod banner;
mod signals;
mod stages;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use account_service::AccountServiceConfig;
use account_service::command::Settings as TellerSettings;
use anyhow::Context;
use balance_service::{BalanceConfig, Edge};
use forwarder::ForwarderConfig;
use shared::clock::Clock;
use shared::config::Settings;
use shared::http::Limits;
use shared::id::Ids;
use shared::lease::Holder;
use shared::partition::PartitionMap;
use shared::sqlite::OpenError;
use shared::telemetry::{init_logs, install_metrics};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use backends::Embedded;
use banner::Banner;
use stages::{Stage, run_in_stages};

/// How often the log is rid of what nobody needs: often enough that a busy log does not grow by more than some seconds
/// of events beyond its window.
const TRIM_EVERY: Duration = Duration::from_secs(10);

/// Serves until a signal, or until something breaks that the services cannot mend themselves.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<Exit> {
    init_logs(&settings.logs)?;
    let clock = Clock::system();
    let ids = Ids::new(clock.clone());
    let partitions = PartitionMap::new(settings.pipeline.partitions)?;
    let account_listener = listen(settings.services.account_addr, "--account-addr").await?;
    let balance_listener = listen(settings.services.balance_addr, "--balance-addr").await?;
    let backends = match backends::open(&settings.backends, partitions, &clock, &ids).await {
        Ok(backends) => backends,
        Err(failure) if matches!(failure.downcast_ref(), Some(OpenError::InUse { .. })) => {
            eprintln!("bank: {failure}");
            return Ok(Exit::DataInUse);
        }
        Err(failure) => return Err(failure),
    };
    let banner = Banner {
        account_address: account_listener.local_addr()?,
        balance_address: balance_listener.local_addr()?,
        data: &settings.backends.data,
    };
    let shutdown = CancellationToken::new();
    let bank = Bank { settings: &settings, partitions, backends, clock, ids, shutdown: shutdown.clone() };
    let stages = bank.open(account_listener, balance_listener)?;
    // A closed stdout is no reason not to serve.
    std::io::stdout().write_all(banner.to_string().as_bytes()).ok();
    tokio::select! {
        biased;
        end = run_in_stages(stages, shutdown.clone()) => end?,
        failure = signals::obey(shutdown) => failure?,
    }
    Ok(Exit::Done)
}

async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; {flag} names another address"))
}

/// What the services are made of.
struct Bank<'a> {
    settings: &'a Settings,
    partitions: PartitionMap,
    backends: Embedded,
    clock: Clock,
    ids: Ids,
    shutdown: CancellationToken,
}

impl Bank<'_> {
    /// Starts the services, in the order in which they are stopped: first no more commands, then no more events on the
    /// way, then no more queries.
    fn open(self, account_listener: TcpListener, balance_listener: TcpListener) -> anyhow::Result<Vec<Stage>> {
        let Self { settings, partitions, backends, clock, ids, shutdown } = self;
        let metrics = install_metrics()?;
        // A process has no other name that is sure to differ from that of every other process.
        let holder = Holder(ids.commit().to_string().into());
        let account = AccountServiceConfig {
            default_currency: settings.services.currency,
            teller: TellerSettings::default(),
            limits: Limits::default(),
            metrics: Some(metrics.clone()),
        };
        let forwarder = ForwarderConfig {
            holder: holder.clone(),
            partitions,
            lease_ttl: settings.pipeline.lease_ttl(),
            log_window: settings.pipeline.log_window(),
            trim_every: TRIM_EVERY,
        };
        let balance = BalanceConfig {
            holder,
            partitions,
            lease_ttl: settings.pipeline.lease_ttl(),
            reconcile_every: settings.pipeline.reconcile_every(),
            keep_previous: settings.pipeline.keep_previous(),
        };
        let edge = Edge { listener: balance_listener, limits: Limits::default(), metrics: Some(metrics) };
        Ok(vec![
            Stage::start("account-service", &shutdown, |stop| {
                let (store, clock, ids) = (backends.store.clone(), clock.clone(), ids.clone());
                account_service::run(account, store, clock, ids, account_listener, stop)
            }),
            Stage::start("forwarder", &shutdown, |stop| {
                let (store, log, leases) = (backends.store.clone(), backends.log.clone(), backends.leases.clone());
                forwarder::run(forwarder, store, log, leases, clock.clone(), stop)
            }),
            Stage::start("balance-service", &shutdown, |stop| {
                balance_service::run(balance, backends, clock, ids, edge, stop)
            }),
        ])
    }
}
