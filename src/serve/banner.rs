//! What a newcomer sees first.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

/// Where the bank is and what to try; the first two lines with an address are the two services.
pub(super) struct Banner<'a> {
    pub(super) account_address: SocketAddr,
    pub(super) balance_address: SocketAddr,
    pub(super) data: &'a Path,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account_address, balance_address, data } = self;
        writeln!(f, "bank {} is open", env!("CARGO_PKG_VERSION"))?;
        writeln!(f)?;
        writeln!(f, "  commands  http://{account_address}   (described at /openapi.json)")?;
        writeln!(f, "  queries   http://{balance_address}   (described at /openapi.json)")?;
        writeln!(f, "  data      {} (embedded store, log, leases and index)", data.display())?;
        writeln!(f)?;
        writeln!(f, "Open an account and look at all of them:")?;
        writeln!(f)?;
        writeln!(f, "  curl http://{account_address}/accounts --json '{{\"owner\":\"Paulo\",\"money\":50}}'")?;
        writeln!(f, "  curl http://{balance_address}/balance")?;
        writeln!(f)?;
        writeln!(f, "Ctrl-C closes it in order; a second Ctrl-C at once.")
    }
}
