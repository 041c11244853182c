//! Where the words go: one line for a decision, to standard error.

use std::io::{self, IsTerminal};
use std::panic;
use std::str::FromStr;

use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};

/// What is logged: a level, or levels by part such as `info,forwarder=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// Why a text is not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a level (error, warn, info, debug, trace, off) or levels by part such as info,forwarder=debug")]
pub struct LogFilterError;

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        EnvFilter::try_new(text).map(|_| Self(text.to_owned())).map_err(|_| LogFilterError)
    }
}

/// Why logs cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("logs cannot begin: {0}")]
pub struct LogError(Box<dyn std::error::Error + Send + Sync>);

/// Begins to write logs, once for the process. A panic becomes a line like any other.
///
/// # Errors
/// When logs have begun already.
pub fn init_logs(settings: &LogSettings) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&settings.log.0).map_err(|failure| LogError(failure.into()))?;
    let terminal = io::stderr().is_terminal();
    let format = settings.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal);
    match format {
        LogFormat::Text => lines.compact().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(LogError)?;
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(location, reason = panic.payload_as_str().unwrap_or("unknown"), "panic");
    }));
    Ok(())
}
