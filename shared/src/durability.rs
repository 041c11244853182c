//! What the settings of a server promise, looked at when a bank starts.
//!
//! The bank asks for durability with every write, and refuses what can do without its laws. The rest is how a server
//! was set up, and that is its operator's decision: whatever promises less than a bank should have is told in one
//! warning each, which names the setting and what to set.
//!
//! A server that does not tell, because the user may not ask or because it is a managed one, is nobody's weakness.

use std::fmt;

use tracing::warn;

/// A setting of a server that promises less than a bank should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// Which server.
    pub server: &'static str,
    /// The setting, as the server's own documentation calls it.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub wanted: &'static str,
    /// What may happen as it is.
    pub risk: &'static str,
}

impl Weakness {
    /// Tells the operator.
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
