//! Settings: each is a flag and an environment variable of the same name, the same in every binary.
//!
//! A wrong setting stops the process before it begins, with a sentence that says what would be right. Nothing else
//! reads the environment.

mod authority;
mod backend;
mod namespace;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

pub use authority::{TlsAuthorities, TlsAuthoritiesError};
use backend::UrlOf;
pub use backend::{BackendUrlError, IndexUrl, LeaseUrl, LogUrl, ServerUrl, StoreUrl};
use clap::{Args, ValueEnum};
pub use namespace::{Namespace, NamespaceError};

use crate::money::Currency;
use crate::partition::SLOTS;
use crate::telemetry::LogFilter;

/// Every setting of the bank. Flatten it into the arguments of a binary.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Where the data is.
    #[command(flatten)]
    pub backends: BackendSettings,
    /// Who can ask.
    #[command(flatten)]
    pub services: ServiceSettings,
    /// How events become balances.
    #[command(flatten)]
    pub pipeline: PipelineSettings,
    /// What is told.
    #[command(flatten)]
    pub logs: LogSettings,
}

/// Where the data is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Backends")]
pub struct BackendSettings {
    /// Event store, the only source of truth: `embedded:`, or `mongodb://…` in a build with servers
    #[arg(long, env = "BANK_STORE_URL", value_name = "URL", default_value = "embedded:",
          value_parser = UrlOf::<StoreUrl>::new(), hide_env_values = true)]
    pub store_url: StoreUrl,

    /// Partition log between forwarder and workers: `embedded:`, or `nats://…` in a build with servers
    #[arg(long, env = "BANK_LOG_URL", value_name = "URL", default_value = "embedded:",
          value_parser = UrlOf::<LogUrl>::new(), hide_env_values = true)]
    pub log_url: LogUrl,

    /// Leases (partitions, leading forwarder, conductor): `embedded:`, or `redis://…` in a build with servers
    #[arg(long, env = "BANK_LEASE_URL", value_name = "URL", default_value = "embedded:",
          value_parser = UrlOf::<LeaseUrl>::new(), hide_env_values = true)]
    pub lease_url: LeaseUrl,

    /// Index that holds the projection: `embedded:`, or `http(s)://…` of Elasticsearch in a build with servers
    #[arg(long, env = "BANK_INDEX_URL", value_name = "URL", default_value = "embedded:",
          value_parser = UrlOf::<IndexUrl>::new(), hide_env_values = true)]
    pub index_url: IndexUrl,

    /// PEM file of certificate authorities to trust
    #[arg(long, env = "BANK_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<TlsAuthorities>,

    /// Credentials file for NATS, as written by `nsc`, instead of a user or token in the URL
    #[arg(long, env = "BANK_LOG_CREDENTIALS", value_name = "FILE")]
    pub log_credentials: Option<PathBuf>,

    /// Number of NATS replicas of a new partition [default: 3 in a cluster, 1 on a single server]
    #[arg(long, env = "BANK_LOG_REPLICAS", value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub log_replicas: Option<u8>,

    /// Folder of the embedded backends; created if missing
    #[arg(long, env = "BANK_DATA", value_name = "FOLDER", default_value = "./data")]
    pub data: PathBuf,

    /// Prefix of databases, streams, keys and indices, so that several banks can share the same servers
    #[arg(long, env = "BANK_NAMESPACE", value_name = "NAME", default_value = Namespace::DEFAULT)]
    pub namespace: Namespace,
}

/// Who can ask.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Services")]
pub struct ServiceSettings {
    /// Address of the account service (commands); in a container 0.0.0.0:8000
    #[arg(long, env = "BANK_ACCOUNT_ADDR", value_name = "ADDRESS", default_value_t = local(8_000))]
    pub account_addr: SocketAddr,

    /// Address of a standalone forwarder's health and metrics; unused inside `bank`
    #[arg(long, env = "BANK_FORWARDER_ADDR", value_name = "ADDRESS", default_value_t = local(8_010))]
    pub forwarder_addr: SocketAddr,

    /// Address of the balance service (queries and rebuilds); in a container 0.0.0.0:8030
    #[arg(long, env = "BANK_BALANCE_ADDR", value_name = "ADDRESS", default_value_t = local(8_030))]
    pub balance_addr: SocketAddr,

    /// Default currency of new accounts (ISO 4217)
    #[arg(long, env = "BANK_CURRENCY", value_name = "CODE", default_value = "EUR")]
    pub currency: Currency,
}

/// How events become balances.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Pipeline")]
pub struct PipelineSettings {
    /// Number of partitions `balance.1`, `balance.2`, …; agreed on when a bank is first started
    #[arg(long, env = "BANK_PARTITIONS", value_name = "COUNT", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(SLOTS)))]
    pub partitions: u16,

    /// Time to live of a lease, in milliseconds; a partition waits about this long when its worker dies
    #[arg(long, env = "BANK_LEASE_TTL_MS", value_name = "MILLISECONDS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u64).range(LEASE_TTL_MS_MIN..=LEASE_TTL_MS_MAX))]
    pub lease_ttl_ms: u64,

    /// How often a worker compares the heads of its streams with its documents, in seconds; 0 disables it. Where that
    /// takes long, the partitions compare for a twentieth of the time, and each at least every 15 minutes
    #[arg(long, env = "BANK_RECONCILE_SECS", value_name = "SECONDS", default_value_t = 30)]
    pub reconcile_secs: u32,

    /// How often every document of the projection is compared with the store, in seconds, without being asked for; 0
    /// disables it
    #[arg(long, env = "BANK_VERIFY_EVERY_SECS", value_name = "SECONDS", default_value_t = 86_400)]
    pub verify_every_secs: u32,

    /// How long events stay in the partition log, in seconds, while there is room; a worker further behind reads the
    /// store
    #[arg(long, env = "BANK_LOG_WINDOW_SECS", value_name = "SECONDS", default_value_t = 86_400,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub log_window_secs: u32,

    /// How long the previous generation is kept for a rollback after a rebuild, in seconds
    #[arg(long, env = "BANK_KEEP_PREVIOUS_SECS", value_name = "SECONDS", default_value_t = 3_600)]
    pub keep_previous_secs: u32,
}

/// A shorter lease would be lost to every pause of the machine.
const LEASE_TTL_MS_MIN: u64 = 500;

/// The longest time that a partition waits after its worker has died.
const LEASE_TTL_MS_MAX: u64 = 600_000;

/// What is told.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogSettings {
    /// Log filter: a level (error, warn, info, debug, trace, off), or levels by component such as
    /// `info,balance-service=debug`. Components: account-service, forwarder, balance-service, shared, bank, and their
    /// modules such as `shared::log`
    #[arg(long, env = "BANK_LOG", value_name = "FILTER", default_value = LogFilter::DEFAULT)]
    pub log: LogFilter,

    /// Log format [default: text on a terminal, json otherwise]
    #[arg(long, env = "BANK_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

impl PipelineSettings {
    /// How long a lease lives without renewal.
    #[must_use]
    pub const fn lease_ttl(&self) -> Duration {
        Duration::from_millis(self.lease_ttl_ms)
    }

    /// How often workers reconcile; `None` if they do not.
    #[must_use]
    pub const fn reconcile_every(&self) -> Option<Duration> {
        unless_zero(self.reconcile_secs)
    }

    /// How often the view is verified without being asked for; `None` if it is not.
    #[must_use]
    pub const fn verify_every(&self) -> Option<Duration> {
        unless_zero(self.verify_every_secs)
    }

    /// How long events stay in the partition log.
    #[must_use]
    pub const fn log_window(&self) -> Duration {
        Duration::from_secs(self.log_window_secs as u64)
    }

    /// How long a rebuild keeps the previous generation.
    #[must_use]
    pub const fn keep_previous(&self) -> Duration {
        Duration::from_secs(self.keep_previous_secs as u64)
    }
}

const fn unless_zero(seconds: u32) -> Option<Duration> {
    match seconds {
        0 => None,
        seconds => Some(Duration::from_secs(seconds as u64)),
    }
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Bank {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(arguments: &[&str]) -> Result<Settings, String> {
        let arguments = [&["bank"], arguments].concat();
        Bank::try_parse_from(arguments).map(|bank| bank.settings).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn the_settings_are_well_formed() {
        Bank::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_with_a_variable_of_its_name_and_a_text() {
        for argument in Bank::command().get_arguments().filter(|argument| argument.get_id() != "help") {
            let flag = argument.get_long().unwrap();
            let variable = argument.get_env().unwrap().to_str().unwrap();
            assert_eq!(variable, format!("BANK_{}", flag.replace('-', "_").to_uppercase()));
            assert!(argument.get_help().is_some() && argument.get_help_heading().is_some(), "{flag}");
        }
    }

    #[test]
    fn without_a_word_the_bank_is_embedded_and_local() {
        let settings = parse(&[]).unwrap();
        assert_eq!(settings.backends.store_url, StoreUrl::Embedded);
        assert_eq!(settings.services.account_addr.to_string(), "127.0.0.1:8000");
        assert_eq!(settings.services.balance_addr.to_string(), "127.0.0.1:8030");
        assert_eq!(settings.pipeline.partitions, 8);
        assert_eq!(settings.pipeline.lease_ttl(), Duration::from_secs(5));
        assert_eq!(settings.logs.log_format, None);
    }

    #[test]
    fn reconciliation_is_off_at_zero() {
        assert_eq!(parse(&["--reconcile-secs", "0"]).unwrap().pipeline.reconcile_every(), None);
        let every = parse(&["--reconcile-secs", "7"]).unwrap().pipeline.reconcile_every();
        assert_eq!(every, Some(Duration::from_secs(7)));
    }

    #[test]
    fn the_view_is_verified_once_a_day_or_as_often_as_it_is_told_or_never() {
        let every = |arguments: &[&str]| parse(arguments).unwrap().pipeline.verify_every();
        assert_eq!(every(&[]), Some(Duration::from_hours(24)));
        assert_eq!(every(&["--verify-every-secs", "7"]), Some(Duration::from_secs(7)));
        assert_eq!(every(&["--verify-every-secs", "0"]), None);
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_would_be_right() {
        for (arguments, lesson) in [
            (["--partitions", "0"], "1..=1024"),
            (["--partitions", "1025"], "1..=1024"),
            (["--lease-ttl-ms", "10"], "500..=600000"),
            (["--currency", "euro"], "ISO 4217"),
            (["--namespace", "Big Bank"], "lowercase"),
            (["--log-format", "xml"], "text, json"),
            (["--log", "info,forwarder=loud"], "info,forwarder=debug"),
            (["--log", "inof"], "error, warn, info, debug, trace, off"),
            (["--log-replicas", "6"], "1..=5"),
            (["--tls-ca", "/dev/null"], "-----BEGIN CERTIFICATE-----"),
            (["--store-url", "postgres://user:secret@db"], "embedded: or mongodb://"),
        ] {
            let refusal = parse(&arguments).unwrap_err();
            assert!(refusal.contains(lesson) && !refusal.contains("secret"), "{refusal}");
        }
    }
    #[cfg(not(feature = "mongodb"))]
    #[test]
    fn a_server_without_its_driver_is_refused_with_how_to_get_it() {
        let refusal = parse(&["--store-url", "mongodb://user:secret@db"]).unwrap_err();
        assert!(refusal.contains("--features servers") && !refusal.contains("secret"), "{refusal}");
    }
}
