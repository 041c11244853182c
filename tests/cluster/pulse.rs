//! How long a command takes to become visible, measured continuously.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::customers::get;
use crate::customers::journal::Journal;

/// A pause between two measurements.
const MEASURE_EVERY: Duration = Duration::from_millis(20);

/// What is needed to measure.
pub(crate) struct Pulse {
    pub(crate) journal: Arc<Journal>,
    pub(crate) accounts: Vec<String>,
    pub(crate) views: Vec<String>,
}

impl Pulse {
    /// Takes one account after the other, and waits at the next balance service for the newest acknowledged version.
    /// Returns how long each of these waits took.
    pub(crate) async fn measure(self, stop: CancellationToken) -> Vec<Duration> {
        let mut lags = Vec::new();
        for (account, view) in self.accounts.iter().cycle().zip(self.views.iter().cycle()) {
            if stop.is_cancelled() {
                break;
            }
            let version = self.journal.history(account).last().map_or(0, |effect| effect.version);
            let asked = Instant::now();
            get(&format!("{view}/balance/{account}?min_version={version}&wait_ms=30000")).await;
            lags.push(asked.elapsed());
            sleep(MEASURE_EVERY).await;
        }
        lags
    }
}
