//! Logs: one line for each decision, to standard error. A line that cannot be written is lost, and nothing else.

use std::io::{self, IsTerminal};
use std::panic;
use std::str::FromStr;

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{LogFormat, LogSettings};

/// What is logged: a level, or levels by component such as `info,forwarder=debug`. A component is a service or another
/// crate, or a module of one such as `shared::log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// What is logged by default.
    pub const DEFAULT: &'static str = "info";
}

/// Why a text is not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a level (error, warn, info, debug, trace, off) or levels by component such as info,forwarder=debug")]
pub struct LogFilterError;

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        let directives: Vec<&str> = text.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
        if !directives.iter().all(|directive| names_level(directive) || names_component(directive)) {
            return Err(LogFilterError);
        }
        let directives: Vec<String> = directives.into_iter().map(with_module_names).collect();
        // A variable that is set to nothing means the default.
        let text = if directives.is_empty() { Self::DEFAULT.to_owned() } else { directives.join(",") };
        EnvFilter::try_new(&text).map(|_| Self(text)).map_err(|_| LogFilterError)
    }
}

/// Whether a directive is a level, or ends in one. `EnvFilter` takes any other word for the name of a component that
/// logs everything while all others are silent, so a mistyped level would switch the logs off.
fn names_level(directive: &str) -> bool {
    let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
    !level.is_empty() && level.parse::<LevelFilter>().is_ok()
}

/// Whether a directive without a level is certainly a module or a span, of which `EnvFilter` logs everything.
fn names_component(directive: &str) -> bool {
    !directive.contains('=') && (directive.contains("::") || directive.starts_with('['))
}

/// A directive with the component as `EnvFilter` knows it: a service is called `account-service`, its crate
/// `account_service`, and a component that there is not logs nothing.
fn with_module_names(directive: &str) -> String {
    // A bracket opens the names of a span and its fields, which are left as they are.
    let (component, rest) = directive.split_at(directive.find(['=', '[']).unwrap_or(directive.len()));
    component.replace('-', "_") + rest
}

/// Why logs cannot be initialized.
#[derive(Debug, thiserror::Error)]
#[error("cannot initialize logging: {0}")]
pub struct LogError(Box<dyn std::error::Error + Send + Sync>);

/// Starts logging, once per process. A panic becomes a log line like any other.
///
/// A line that cannot be written, because a disk is full or a pipe closed, is lost. `tracing-subscriber` would tell of
/// it with `eprintln!`, which panics on the same stderr; the hook below would log that panic and panic again, and a
/// panic inside a panic ends the process.
///
/// # Errors
/// If logging was started already.
pub fn init_logs(settings: &LogSettings) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&settings.log.0).map_err(|failure| LogError(failure.into()))?;
    let terminal = io::stderr().is_terminal();
    let format = settings.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(terminal)
        .log_internal_errors(false);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, read_link};
    use std::path::Path;
    use std::process::Command;
    use std::{env, thread};

    /// A file that takes nothing, like one on a full disk.
    const FULL: &str = "/dev/full";

    /// The name of the test below that runs itself once more.
    const WITHOUT_LOG: &str = "telemetry::logs::tests::a_panic_that_cannot_be_logged_is_one_panic";

    /// Panics after logs have been started, and goes on.
    fn panic_with_logs() {
        let log = LogFilter(LogFilter::DEFAULT.to_owned());
        init_logs(&LogSettings { log, log_format: None }).unwrap();
        let caught: thread::Result<()> = panic::catch_unwind(|| panic!("planted"));
        assert!(caught.is_err());
        error!("a line after it");
    }

    /// Runs itself as a process of its own, whose stderr is full: there it panics, and must live on.
    #[test]
    fn a_panic_that_cannot_be_logged_is_one_panic() {
        if read_link("/proc/self/fd/2").is_ok_and(|stderr| stderr == Path::new(FULL)) {
            return panic_with_logs();
        }
        let full = File::options().write(true).open(FULL).unwrap();
        let mut itself = Command::new(env::current_exe().unwrap());
        // Without this option the test harness takes what is printed to stderr.
        let ended = itself.args(["--exact", WITHOUT_LOG, "--nocapture"]).stderr(full).output().unwrap();
        let told = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && told.contains("1 passed"), "{}: {told}", ended.status);
    }

    #[test]
    fn a_filter_is_a_level_or_levels_by_component() {
        for text in ["warn", "OFF", "info,forwarder=debug", "forwarder=debug", "shared::log=trace", " info, bank=off"] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_service_is_a_component_by_the_name_of_its_program() {
        for (text, filter) in [
            ("info,account-service=debug", "info,account_service=debug"),
            ("balance-service::worker=trace,warn", "balance_service::worker=trace,warn"),
            ("[a-span{a-field=1}]=debug", "[a-span{a-field=1}]=debug"),
        ] {
            assert_eq!(text.parse::<LogFilter>(), Ok(LogFilter(filter.to_owned())), "{text}");
        }
    }

    #[test]
    fn an_empty_filter_is_the_default() {
        for text in ["", " ", ","] {
            assert_eq!(text.parse::<LogFilter>(), Ok(LogFilter(LogFilter::DEFAULT.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_with_the_levels() {
        for text in ["inof", "info,forwarder", "nonsense=", "forwarder=inof", "info,=", "6"] {
            let refusal = text.parse::<LogFilter>().expect_err(text).to_string();
            assert!(refusal.contains("error, warn, info, debug, trace, off"), "{text:?}: {refusal}");
        }
    }
}
