//! Which backend a port has: a closed set of schemes for each port, so that a wrong URL is told from an absent driver.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

/// Which backend a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendUrl {
    /// In this process, durable in the data folder.
    Embedded,
}

/// Why a URL names no backend. Only the scheme is told, since the rest may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendUrlError {
    /// The driver exists, elsewhere.
    #[error("{scheme}:// needs a build with servers: cargo run --release --features servers; this build has embedded:")]
    NotCompiled {
        /// The scheme.
        scheme: &'static str,
    },
    /// No driver for it.
    #[error("must be embedded: or {}", .allowed.iter().map(|scheme| format!("{scheme}://…")).collect::<Vec<_>>().join(" or "))]
    Unknown {
        /// Schemes of servers that can be behind this port.
        allowed: &'static [&'static str],
    },
}

/// Reads the URL of one port. clap's own readers quote what they refuse, and with it the password.
#[derive(Clone, Copy, Debug)]
pub(super) struct UrlOf {
    servers: &'static [&'static str],
}

impl UrlOf {
    pub(super) const STORE: Self = Self { servers: &["mongodb", "mongodb+srv"] };
    pub(super) const LOG: Self = Self { servers: &["nats", "tls"] };
    pub(super) const LEASE: Self = Self { servers: &["redis", "rediss"] };
    pub(super) const INDEX: Self = Self { servers: &["http", "https"] };

    fn choose(self, url: &str) -> Result<BackendUrl, BackendUrlError> {
        if url == "embedded:" {
            return Ok(BackendUrl::Embedded);
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        match self.servers.iter().find(|known| Some(**known) == scheme) {
            Some(scheme) => Err(BackendUrlError::NotCompiled { scheme }),
            None => Err(BackendUrlError::Unknown { allowed: self.servers }),
        }
    }
}

impl TypedValueParser for UrlOf {
    type Value = BackendUrl;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<BackendUrl, clap::Error> {
        self.choose(value.to_str().unwrap_or_default()).map_err(|refusal| {
            let name = argument.map(ToString::to_string).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("{name}: {refusal}\n")).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_knows_its_own_servers() {
        assert_eq!(UrlOf::STORE.choose("embedded:"), Ok(BackendUrl::Embedded));
        assert_eq!(UrlOf::LOG.choose("nats://bus"), Err(BackendUrlError::NotCompiled { scheme: "nats" }));
        assert_eq!(UrlOf::LEASE.choose("redis://leases"), Err(BackendUrlError::NotCompiled { scheme: "redis" }));
        assert_eq!(UrlOf::INDEX.choose("https://elastic"), Err(BackendUrlError::NotCompiled { scheme: "https" }));
        for wrong in ["", "embedded", "embedded:x", "mongodb:", "nats://bus", "EMBEDDED:"] {
            assert!(matches!(UrlOf::STORE.choose(wrong), Err(BackendUrlError::Unknown { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_refusal_teaches_and_keeps_the_password() {
        let refusal = UrlOf::STORE.choose("mongodb://user:secret@db").unwrap_err().to_string();
        assert!(refusal.contains("--features servers") && !refusal.contains("secret"), "{refusal}");
        assert_eq!(
            UrlOf::INDEX.choose("ftp://x").unwrap_err().to_string(),
            "must be embedded: or http://… or https://…"
        );
    }
}
