//! The exit codes, which scripts may rely on.

use std::fmt::Display;
use std::process::ExitCode;

use shared::process::{BeginError, EXIT_DATA_IN_USE, EXIT_USAGE};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Done = 0,
    /// Something broke, or the report of a success cannot be written; the text on stderr says what.
    Failure = 1,
    /// The command line or a setting is wrong; clap uses the same number.
    Usage = 2,
    /// Another process uses the data folder.
    DataInUse = 3,
    /// The file to import is invalid; nothing was sent.
    BadFile = 4,
    /// The import is done, but the bank refused some lines.
    LinesRejected = 5,
    /// It is done, but some balances differ from the file, or from the measured commands.
    BalancesDiffer = 6,
    /// The projection was compared, and some documents differ from the store.
    DocumentsDiffer = 7,
    /// The projection of a stopped bank was compared, and is right as far as it goes.
    DocumentsLag = 8,
    /// A rebuild or a rollback was refused, failed or was cancelled, so queries are answered as before.
    NotSwitched = 9,
}

/// The codes as `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  failure, if only to write the report: the last line on stderr says why
  2  invalid command line or setting
  3  the data folder is in use by another process
  4  import: the file is invalid; nothing was sent
  5  import: the bank rejected some lines; the report lists them
  6  import, bench: the balance of an account is wrong
  7  verify: documents differ from the store; with --repair: still differ
  8  verify: the bank is stopped, and documents lag until it runs; none differs otherwise
  9  rebuild, rollback: refused, failed or cancelled; queries are answered as before";

/// A failure that has an exit code of its own, wherever it is found.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct CodedFailure {
    exit: Exit,
    reason: String,
}

impl CodedFailure {
    /// A failure with which the process ends in this way.
    pub(crate) fn new(exit: Exit, reason: impl Display) -> Self {
        Self { exit, reason: reason.to_string() }
    }
}

impl Exit {
    /// How the process ends with a failure.
    pub(crate) fn of(failure: &anyhow::Error) -> Self {
        if let Some(coded) = failure.downcast_ref::<CodedFailure>() {
            return coded.exit;
        }
        match failure.downcast_ref::<BeginError>().map(BeginError::exit_code) {
            Some(EXIT_USAGE) => Self::Usage,
            Some(EXIT_DATA_IN_USE) => Self::DataInUse,
            Some(_) | None => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use shared::backends::{OpenBackendsError, PartitionsError};

    use super::*;

    #[test]
    fn a_setting_that_does_not_fit_the_bank_is_told_apart_from_a_failure() {
        let other = PartitionsError::Other { stored: 8, asked: 9, is_embedded: true };
        let failure = anyhow::Error::from(BeginError::Backends(OpenBackendsError::Partitions(other)));
        assert_eq!(Exit::of(&failure.context("the bank does not open")), Exit::Usage);
        assert_eq!(Exit::of(&anyhow::anyhow!("the disk is on fire")), Exit::Failure);
    }

    #[test]
    fn a_failure_keeps_its_code_however_many_functions_pass_it_on() {
        let failure = anyhow::Error::from(CodedFailure::new(Exit::BadFile, "line 3: no such direction"));
        let failure = failure.context("it cannot be imported");
        assert_eq!(Exit::of(&failure), Exit::BadFile);
        assert_eq!(format!("{failure:#}"), "it cannot be imported: line 3: no such direction");
    }
}
