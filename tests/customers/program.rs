//! Programs as tests start them: without the settings of a bank that the shell may hold.
//!
//! After `eval "$(./scripts/servers env)"` a shell holds the URLs of servers. A bank under test that took them would
//! write there instead of into the folder of its test.

use std::env;
use std::ffi::OsStr;

use tokio::process::Command;

/// How the names of all settings begin.
const SETTING: &[u8] = b"BANK_";

/// A program that inherits no setting of a bank; a test adds those that it wants.
pub(crate) fn without_settings(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let inherited = env::vars_os().map(|(name, _)| name);
    for setting in inherited.filter(|name| name.as_encoded_bytes().starts_with(SETTING)) {
        command.env_remove(setting);
    }
    command
}
