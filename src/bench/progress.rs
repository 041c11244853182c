//! The progress bars of a measurement.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::interval;

use crate::console::progress_bar;

/// How often a bar of time is redrawn.
const REDRAW_EVERY: Duration = Duration::from_millis(250);

/// A bar for a number of things.
pub(super) fn counted(what: &'static str, count: u64) -> ProgressBar {
    progress_bar(count, "{msg:18} {bar:40} {human_pos}/{human_len}, {per_sec}, {eta} left").with_message(what)
}

/// A bar for a time.
pub(super) fn timed(what: &'static str, time: Duration) -> ProgressBar {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    progress_bar(millis, "{msg:18} {bar:40} {eta} left").with_message(what)
}

/// Advances a bar of time while work runs.
pub(super) async fn beside<T>(bar: &ProgressBar, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut ticks = interval(REDRAW_EVERY);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => {
                let millis = u64::try_from(bar.elapsed().as_millis()).unwrap_or(u64::MAX);
                bar.set_position(millis.min(bar.length().unwrap_or(millis)));
            }
        }
    }
}
