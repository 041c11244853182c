//! The bank whose projection is measured, and how a backlog is held back while it is written.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context, ensure};
use balance_service::BalanceConfig;
use clap::Args;
use forwarder::ForwarderConfig;
use shared::process::Process;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::options::Base;
use crate::serve::{Stage, run_in_stages};

/// How forwarders that run elsewhere are held back.
#[derive(Args, Debug)]
pub(super) struct HoldOptions {
    /// Shell command that stops the forwarders, run once the accounts are open; needs --release
    #[arg(long, value_name = "COMMAND", requires = "release")]
    hold: Option<String>,

    /// Shell command that starts them again, run once everything is written; the backlog is timed from here
    #[arg(long, value_name = "COMMAND", requires = "hold")]
    release: Option<String>,
}

impl HoldOptions {
    /// Whether anything is held back.
    pub(super) const fn is_asked_for(&self) -> bool {
        self.hold.is_some()
    }

    /// From here on nothing reaches the projection.
    pub(super) async fn hold(&self) -> anyhow::Result<()> {
        shell(self.hold.as_deref()).await
    }

    /// Everything reaches it again.
    pub(super) async fn release(&self) -> anyhow::Result<()> {
        shell(self.release.as_deref()).await
    }
}

/// Where the bank runs.
pub(super) enum Bank {
    /// In processes of its own.
    Elsewhere { base: Base, hold: HoldOptions },
    /// In this process.
    Here(Box<Here>),
}

/// Forwarder and balance service in this process.
pub(super) struct Here {
    process: Process,
    base: Base,
    balance: Stage,
    forwarder: Stage,
    /// Cancelled when the run is over, or when a service breaks.
    over: CancellationToken,
}

impl Bank {
    /// A bank that is running already.
    pub(super) fn elsewhere(base: &Base, hold: HoldOptions) -> Self {
        Self::Elsewhere { base: base.clone(), hold }
    }

    /// A bank in this process, on a free port.
    pub(super) fn here(process: Process) -> anyhow::Result<Self> {
        let over = CancellationToken::new();
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Process::listen(anywhere, "--balance-addr")?;
        let base = Base::local(listener.local_addr()?);
        let config = BalanceConfig::of(&process);
        let edge = process.edge(listener);
        let (backends, clock, ids) = (process.backends.clone(), process.clock.clone(), process.ids.clone());
        let balance = Stage::start("balance-service", &over, |stop| {
            balance_service::run(config, backends, clock, ids, edge, stop)
        });
        let forwarder = forwarder_of(&process, &over);
        Ok(Self::Here(Box::new(Here { process, base, balance, forwarder, over })))
    }

    /// Where balances are queried.
    pub(super) fn base(&self) -> &Base {
        match self {
            Self::Elsewhere { base, .. } => base,
            Self::Here(here) => &here.base,
        }
    }

    /// From here on nothing reaches the projection.
    pub(super) async fn hold(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Elsewhere { hold, .. } => hold.hold().await,
            Self::Here(here) => Ok(here.forwarder.stop().await?),
        }
    }

    /// Everything reaches it again.
    pub(super) async fn release(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Elsewhere { hold, .. } => hold.release().await,
            Self::Here(here) => {
                here.forwarder = forwarder_of(&here.process, &here.over);
                Ok(())
            }
        }
    }

    /// Stops what runs here.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Elsewhere { .. } => Ok(()),
            Self::Here(here) => {
                let Here { forwarder, balance, over, .. } = *here;
                over.cancel();
                Ok(run_in_stages(vec![forwarder, balance], over).await?)
            }
        }
    }
}

fn forwarder_of(process: &Process, over: &CancellationToken) -> Stage {
    let config = ForwarderConfig::of(process);
    let (backends, clock) = (process.backends.clone(), process.clock.clone());
    Stage::start("forwarder", over, |stop| {
        forwarder::run(config, backends.store, backends.log, backends.leases, clock, stop)
    })
}

async fn shell(command: Option<&str>) -> anyhow::Result<()> {
    let Some(command) = command else { return Ok(()) };
    let status = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).status().await;
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed with {status}");
    Ok(())
}
