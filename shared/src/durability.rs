//! What the settings of the servers promise, checked when a bank starts.
//!
//! The bank requests durability with every write, and refuses a server that cannot keep its laws. All other settings
//! are the operator's decision: each one that promises less than a bank should have gets one warning, which names the
//! setting and the value to set.
//!
//! A setting that a server does not reveal, because the user lacks the permission or the server is a managed one, is
//! not reported as a weakness.

use std::fmt;

use tracing::warn;

/// A setting of a server that promises less than a bank should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// Which server.
    pub server: &'static str,
    /// The setting, as the server's own documentation calls it.
    pub setting: &'static str,
    /// Its value.
    pub found: String,
    /// What it should be.
    pub wanted: &'static str,
    /// What may happen with the value found.
    pub risk: &'static str,
}

impl Weakness {
    /// Warns the operator, in the log.
    pub fn warn(&self) {
        let Self { server, setting, found, wanted, risk } = self;
        warn!(server, setting, found, wanted, risk, "a server is configured less safely than it should be");
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, setting, found, wanted, risk } = self;
        write!(f, "{server}: {setting} is {found}, set it to {wanted}: {risk}")
    }
}
