//! What a newcomer sees first.

use std::fmt;
use std::net::SocketAddr;

use shared::config::{BackendSettings, IndexUrl, LeaseUrl, LogUrl, StoreUrl};

/// Where the bank is and what to try; the first two lines with an address are the two services.
pub(super) struct Banner<'a> {
    pub(super) account_address: SocketAddr,
    pub(super) balance_address: SocketAddr,
    pub(super) backends: &'a BackendSettings,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account_address, balance_address, backends } = self;
        writeln!(f, "bank {} is running", env!("CARGO_PKG_VERSION"))?;
        writeln!(f)?;
        writeln!(f, "  commands  http://{account_address}   (API: /openapi.json)")?;
        writeln!(f, "  queries   http://{balance_address}   (API: /openapi.json)")?;
        writeln!(f, "  data      {}", Data(backends))?;
        writeln!(f)?;
        writeln!(f, "Open an account and list the balances:")?;
        writeln!(f)?;
        writeln!(f, "  curl http://{account_address}/accounts --json '{{\"owner\":\"Paulo\",\"money\":50}}'")?;
        writeln!(f, "  curl http://{balance_address}/balance")?;
        writeln!(f)?;
        writeln!(f, "Ctrl-C shuts it down gracefully; a second Ctrl-C exits at once.")
    }
}

/// Where the data is, without the URLs of servers, which may hold passwords.
struct Data<'a>(&'a BackendSettings);

impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackendSettings { store_url, log_url, lease_url, index_url, data, .. } = self.0;
        let embedded = [
            (*store_url == StoreUrl::Embedded, "store"),
            (*log_url == LogUrl::Embedded, "log"),
            (*lease_url == LeaseUrl::Embedded, "leases"),
            (*index_url == IndexUrl::Embedded, "index"),
        ];
        let names = |wanted| {
            let names = embedded.iter().filter(|(is_embedded, _)| *is_embedded == wanted).map(|(_, name)| *name);
            names.collect::<Vec<_>>().join(", ")
        };
        match (names(true), names(false)) {
            (here, elsewhere) if elsewhere.is_empty() => write!(f, "{} ({here})", data.display()),
            (here, elsewhere) if here.is_empty() => write!(f, "on servers ({elsewhere})"),
            (here, elsewhere) => write!(f, "{} ({here}); on servers ({elsewhere})", data.display()),
        }
    }
}
