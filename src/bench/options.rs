//! The options of the scenarios.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Uri;

use crate::exit::CodedFailure;
use crate::service::Service;

/// Enough to fill the commits of a disk that takes a millisecond to sync.
const CONNECTIONS_DEFAULT: u16 = 128;

/// Each connection is a socket, of which a process may have about a thousand unless its user raised the limit.
const CONNECTIONS_MAX: i64 = 900;

/// Accounts are kept in memory with their balances: 32 bytes each.
const ACCOUNTS_MAX: i64 = 10_000_000;

/// Requests a second that one thread can time.
const RATE_MAX: i64 = 1_000_000;

/// Where the bank is, and where the figures go.
#[derive(Args, Clone, Debug)]
pub(super) struct Target {
    /// URL of the account service
    #[arg(long, default_value = "http://127.0.0.1:8000", value_parser = base_url)]
    pub(super) url: Base,

    /// URL of the balance service
    #[arg(long, default_value = "http://127.0.0.1:8030", value_parser = base_url)]
    pub(super) balance_url: Base,

    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

impl Target {
    /// Refuses the URL of another service.
    pub(super) async fn refuse_others(&self) -> Result<(), CodedFailure> {
        Service::Account.refuse_other(&self.url.to_string(), "--url").await?;
        self.refuse_other_for_queries().await
    }

    /// The same of the URL for queries alone.
    pub(super) async fn refuse_other_for_queries(&self) -> Result<(), CodedFailure> {
        Service::Balance.refuse_other(&self.balance_url.to_string(), "--balance-url").await
    }
}

/// How much load there is, of which kind, and for how long.
#[derive(Args, Clone, Debug)]
pub(super) struct LoadOptions {
    #[command(flatten)]
    pub(super) target: Target,

    /// Number of connections that send requests
    #[arg(long, short, default_value_t = CONNECTIONS_DEFAULT,
          value_parser = clap::value_parser!(u16).range(1..=CONNECTIONS_MAX))]
    pub(super) connections: u16,

    /// Requests per second, sent on a fixed schedule (open model); without it each connection sends its next request
    /// when the last is answered (closed model)
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=RATE_MAX))]
    pub(super) rate: Option<u32>,

    /// Duration of the measurement, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    duration: u32,

    /// Duration of the warm-up before it, in seconds
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3_600))]
    warmup: u32,

    /// Number of accounts to open
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=ACCOUNTS_MAX))]
    pub(super) accounts: u32,

    /// Exponent of a Zipf distribution by which accounts are chosen, such as 1.1; uniform if omitted
    #[arg(long, value_name = "EXPONENT", value_parser = exponent)]
    pub(super) zipf: Option<f64>,

    /// Send an idempotency key with each command
    #[arg(long)]
    pub(super) keys: bool,

    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

impl LoadOptions {
    /// How long the measurement takes.
    pub(super) const fn duration(&self) -> Duration {
        Duration::from_secs(self.duration as u64)
    }

    /// How long the load runs before the measurement.
    pub(super) const fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup as u64)
    }
}

/// Where a service is: `http://host:port`.
#[derive(Clone, Debug)]
pub(super) struct Base {
    authority: Box<str>,
    port: u16,
    host: Box<str>,
}

impl Base {
    /// A service of this process.
    pub(super) fn local(address: SocketAddr) -> Self {
        Self { authority: address.to_string().into(), port: address.port(), host: address.ip().to_string().into() }
    }

    /// What a socket connects to.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The value of the header `Host`.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

fn base_url(text: &str) -> Result<Base, String> {
    let uri: Uri = text.parse().map_err(|error| format!("must be http://host:port: {error}"))?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/");
    let authority = authority.ok_or("must be http://host:port")?;
    let host = authority.host().trim_matches(['[', ']']);
    Ok(Base { authority: authority.as_str().into(), port: authority.port_u16().unwrap_or(80), host: host.into() })
}

fn exponent(text: &str) -> Result<f64, String> {
    let exponent: f64 = text.parse().map_err(|error| format!("must be a number from 0 to 10: {error}"))?;
    if (0.0..=10.0).contains(&exponent) { Ok(exponent) } else { Err("must be a number from 0 to 10".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_by_host_and_port() {
        let base = base_url("http://localhost:8000/").unwrap();
        assert_eq!((base.address(), base.authority()), (("localhost", 8000), "localhost:8000"));
        assert_eq!(base_url("http://[::1]:9").unwrap().address(), ("::1", 9));
        assert_eq!(base_url("http://bank").unwrap().address(), ("bank", 80));
        for wrong in ["", "bank:8000", "https://bank", "http://bank/path", "nats://bank"] {
            assert!(base_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_exponent_is_a_small_number() {
        assert!(exponent("1.1").is_ok());
        for wrong in ["", "-1", "11", "NaN", "inf"] {
            assert!(exponent(wrong).is_err(), "{wrong}");
        }
    }
}
