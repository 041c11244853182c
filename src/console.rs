//! What a command shows: its report on stdout; what went wrong, and progress, on stderr.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use shared::process;

use crate::exit::Exit;

/// Says on stderr what went wrong, or nothing if stderr takes nothing.
pub(crate) fn complain(failure: impl Display) {
    process::complain("bank", failure);
}

/// A progress bar of this form on stderr, drawn on a terminal only.
pub(crate) fn progress_bar(length: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::new(length).with_style(style)
}

/// Writes the report of a command to stdout, and returns how the command ends.
///
/// A pipe that its reader has closed changes nothing: the reader has what it wanted, as `head` does. Any other failure
/// is told on stderr and makes a failure of a success; every other outcome says more than that its report is lost, and
/// remains.
pub(crate) fn print(report: &str, outcome: Exit) -> Exit {
    print_to(io::stdout(), report, outcome)
}

fn print_to(mut stdout: impl Write, report: &str, outcome: Exit) -> Exit {
    match stdout.write_all(report.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => outcome,
        Err(failure) if failure.kind() == ErrorKind::BrokenPipe => outcome,
        Err(failure) => {
            complain(format_args!("cannot write the report to stdout: {failure}"));
            if outcome == Exit::Done { Exit::Failure } else { outcome }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufWriter;

    /// A stdout that takes nothing.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_report_that_is_taken_changes_no_outcome() {
        for outcome in [Exit::Done, Exit::LinesRejected, Exit::DocumentsDiffer] {
            let mut stdout = Vec::new();
            assert_eq!(print_to(&mut stdout, "a report\n", outcome), outcome);
            assert_eq!(stdout, b"a report\n");
        }
    }

    #[test]
    fn a_report_that_is_lost_makes_a_failure_of_a_success_unless_nobody_wants_it() {
        for (kind, outcome, expected) in [
            (ErrorKind::BrokenPipe, Exit::Done, Exit::Done),
            (ErrorKind::BrokenPipe, Exit::DocumentsDiffer, Exit::DocumentsDiffer),
            (ErrorKind::StorageFull, Exit::Done, Exit::Failure),
            (ErrorKind::StorageFull, Exit::LinesRejected, Exit::LinesRejected),
            (ErrorKind::StorageFull, Exit::DocumentsDiffer, Exit::DocumentsDiffer),
        ] {
            assert_eq!(print_to(Failing(kind), "a report\n", outcome), expected, "{kind}");
            // What a buffer has taken is not written yet.
            assert_eq!(print_to(BufWriter::new(Failing(kind)), "a report\n", outcome), expected, "{kind}");
        }
    }
}
