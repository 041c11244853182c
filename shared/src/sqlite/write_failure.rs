//! The failure to write to a file, as on a full disk, which lasts until a transaction of its writer is committed again.
//!
//! - *It is told seldom*, and so is its end, not for each transaction: whoever is refused asks again.
//! - *Who asks whether the file takes writes is answered by trying*: after a failure, each transaction also rewrites a
//!   page, and whoever asks has one made. Nothing else may be written for hours, so what is known of the last
//!   transaction could be long out of date.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{error, info};

use super::turn::Ending;
use crate::telemetry::Seldom;

/// Whether the last transaction failed as a whole. Clones share what is known.
#[derive(Clone)]
pub(super) struct WriteFailure(Arc<Known>);

struct Known {
    file_name: &'static str,
    is_failing: AtomicBool,
    /// Whether its end is to be told.
    is_told: AtomicBool,
    line: Seldom,
}

impl WriteFailure {
    /// None so far, of a file that is being opened.
    pub(super) fn none(file_name: &'static str) -> Self {
        let no = || AtomicBool::new(false);
        Self(Arc::new(Known { file_name, is_failing: no(), is_told: no(), line: Seldom::new() }))
    }

    /// Notes how a transaction with writes ended. One that was refused failed before, for a reason told elsewhere.
    pub(super) fn note(&self, ending: &Ending) {
        match ending {
            Ending::Committed => self.0.note_committed(),
            Ending::NotDone { reason, .. } => self.0.note_failed(reason),
            Ending::Unknown(error) => self.0.note_failed(error),
            Ending::Refused(_) => {}
        }
    }

    /// Whether the last transaction failed.
    pub(super) fn is_known(&self) -> bool {
        self.0.is_failing.load(Ordering::Relaxed)
    }
}

impl Known {
    fn note_failed(&self, reason: &impl Display) {
        let file = self.file_name;
        self.is_failing.store(true, Ordering::Relaxed);
        if let Some(left_out) = self.line.due() {
            self.is_told.store(true, Ordering::Relaxed);
            error!(file, %reason, left_out, "the file takes no writes; is the disk full? Each write tries again");
        }
    }

    fn note_committed(&self) {
        // Both are false nearly always, and reading them costs less than writing.
        if self.is_failing.load(Ordering::Relaxed) {
            self.is_failing.store(false, Ordering::Relaxed);
        }
        if self.is_told.load(Ordering::Relaxed) {
            self.is_told.store(false, Ordering::Relaxed);
            info!(file = self.file_name, "the file takes writes again");
        }
    }
}
