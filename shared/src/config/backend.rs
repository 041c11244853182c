//! Which backend a port has: each port has a closed set of schemes, so that a wrong URL is told apart from a missing
//! driver.

use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

/// The URL of a server. It may hold a password, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Box<str>);

impl ServerUrl {
    /// The URL, for the driver only.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerUrl(…)")
    }
}

/// The URL of one port, which selects its backend.
pub(super) trait PortUrl: Clone + Send + Sync + Sized + 'static {
    /// The URL schemes of this port's server.
    const SCHEMES: &'static [&'static str];
    /// The embedded backend.
    const EMBEDDED: Self;

    /// The server at this URL, if this build has its driver.
    fn server(url: &str) -> Option<Self>;
}

macro_rules! port_url {
    ($(#[$doc:meta])* $name:ident, $server:ident = $feature:literal $($scheme:literal)+) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            /// In this process, durable in the data folder.
            Embedded,
            /// A server.
            #[cfg(feature = $feature)]
            $server(ServerUrl),
        }

        impl PortUrl for $name {
            const SCHEMES: &'static [&'static str] = &[$($scheme),+];
            const EMBEDDED: Self = Self::Embedded;

            #[cfg(feature = $feature)]
            fn server(url: &str) -> Option<Self> {
                Some(Self::$server(ServerUrl(url.into())))
            }

            #[cfg(not(feature = $feature))]
            fn server(_url: &str) -> Option<Self> {
                None
            }
        }
    };
}

port_url!(
    /// Where the event store is.
    StoreUrl, Mongo = "mongodb" "mongodb" "mongodb+srv"
);
port_url!(
    /// Where the partition log is.
    LogUrl, Nats = "nats" "nats" "tls"
);
port_url!(
    /// Where the leases are.
    LeaseUrl, Redis = "redis" "redis" "rediss"
);
port_url!(
    /// Where the balance index is.
    IndexUrl, Elastic = "elasticsearch" "http" "https"
);

/// Why a URL names no backend. Only the scheme is quoted, since the rest may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendUrlError {
    /// The driver exists, but not in this build.
    #[error(
        "{scheme}:// needs a build with servers (cargo run --release --features servers); this one has embedded: only"
    )]
    NotCompiled {
        /// The scheme.
        scheme: &'static str,
    },
    /// No driver exists for it.
    #[error("must be embedded: or {}", .allowed.iter().map(|scheme| format!("{scheme}://…")).collect::<Vec<_>>().join(" or "))]
    Unknown {
        /// The URL schemes of this port's server.
        allowed: &'static [&'static str],
    },
}

/// Reads the URL of one port. clap's own parsers quote what they refuse, including the password.
#[derive(Debug)]
pub(super) struct UrlOf<P>(PhantomData<P>);

impl<P> Clone for UrlOf<P> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<P: PortUrl> UrlOf<P> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }

    fn choose(url: &str) -> Result<P, BackendUrlError> {
        if url == "embedded:" {
            return Ok(P::EMBEDDED);
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        match P::SCHEMES.iter().find(|known| Some(**known) == scheme) {
            Some(scheme) => P::server(url).ok_or(BackendUrlError::NotCompiled { scheme }),
            None => Err(BackendUrlError::Unknown { allowed: P::SCHEMES }),
        }
    }
}

impl<P: PortUrl> TypedValueParser for UrlOf<P> {
    type Value = P;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<P, clap::Error> {
        Self::choose(value.to_str().unwrap_or_default()).map_err(|refusal| {
            let name = argument.map(ToString::to_string).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("{name}: {refusal}\n")).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build with or without the driver makes of a URL of the right scheme.
    fn assert_known<P: PortUrl + PartialEq + fmt::Debug>(url: &str, scheme: &'static str) {
        let chosen = UrlOf::<P>::choose(url);
        match P::server(url) {
            Some(server) => assert_eq!(chosen, Ok(server)),
            None => assert_eq!(chosen, Err(BackendUrlError::NotCompiled { scheme })),
        }
    }

    #[test]
    fn each_port_knows_its_own_servers() {
        assert_eq!(UrlOf::choose("embedded:"), Ok(StoreUrl::Embedded));
        assert_known::<StoreUrl>("mongodb://db", "mongodb");
        assert_known::<LogUrl>("nats://bus", "nats");
        assert_known::<LeaseUrl>("redis://leases", "redis");
        assert_known::<IndexUrl>("https://elastic", "https");
        for wrong in ["", "embedded", "embedded:x", "mongodb:", "nats://bus", "EMBEDDED:"] {
            assert!(matches!(UrlOf::<StoreUrl>::choose(wrong), Err(BackendUrlError::Unknown { .. })), "{wrong}");
        }
    }

    #[test]
    fn neither_a_refusal_nor_a_log_line_shows_the_password() {
        let refusal = BackendUrlError::NotCompiled { scheme: "mongodb" }.to_string();
        assert!(refusal.contains("--features servers"), "{refusal}");
        assert!(!format!("{:?}", UrlOf::<StoreUrl>::choose("mongodb://user:secret@db")).contains("secret"));
        assert_eq!(
            UrlOf::<IndexUrl>::choose("ftp://secret").unwrap_err().to_string(),
            "must be embedded: or http://… or https://…"
        );
    }
}
