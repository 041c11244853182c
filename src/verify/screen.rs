//! Shows progress on a terminal, once the work has taken a while.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::number::grouped;

/// Shorter work shows nothing.
const QUIET_FOR: Duration = Duration::from_secs(2);

/// A line on stderr, which is drawn on a terminal only.
pub(super) struct Screen {
    started: Instant,
    bar: ProgressBar,
    partitions: usize,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), bar: ProgressBar::hidden(), partitions: 0 }
    }

    /// One more partition is done.
    pub(super) fn partition_done(&mut self) {
        self.partitions += 1;
    }

    /// Shows that this many accounts have been compared.
    pub(super) fn show(&self, accounts: u64) {
        if self.started.elapsed() < QUIET_FOR {
            return;
        }
        if self.bar.is_hidden() {
            let style =
                ProgressStyle::with_template("{spinner} {elapsed}, {msg}").expect("the template is well formed");
            self.bar.set_style(style);
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_message(format!("{} accounts, {} partitions done", grouped(accounts), self.partitions));
        self.bar.tick();
    }

    /// Removes the line.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
