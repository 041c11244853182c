//! Latencies in a histogram of constant relative error (`HdrHistogram`).

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is distinguished from longer ones.
const LATENCY_MAX: Duration = Duration::from_mins(10);

/// Values are off by at most a thousandth.
const DIGITS: u8 = 3;

/// A histogram of latencies in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// The usual percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        let micros_max = u64::try_from(LATENCY_MAX.as_micros()).expect("minutes fit");
        Self(Histogram::new_with_max(micros_max, DIGITS).expect("the bounds are sensible"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// What they would be if each connection had sent a request every `interval`, whether or not the last was answered.
    pub(super) fn corrected(&self, interval: Duration) -> Self {
        let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
        Self(self.0.clone_correct(micros))
    }

    /// `None` if nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| milliseconds(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(self.0.max()),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a latency is far below 2^53 microseconds")]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_hidden_until_it_is_corrected_for() {
        let mut latencies = Latencies::new();
        for _ in 0..99 {
            latencies.record(Duration::from_millis(1));
        }
        latencies.record(Duration::from_secs(1));
        assert!(latencies.percentiles().unwrap().p90 < 2.0);
        let corrected = latencies.corrected(Duration::from_millis(1));
        assert!(corrected.percentiles().unwrap().p50 > 100.0);
    }

    #[test]
    fn what_is_longer_than_the_longest_counts_as_the_longest() {
        let mut latencies = Latencies::new();
        latencies.record(LATENCY_MAX * 2);
        assert!(latencies.percentiles().unwrap().max >= 600_000.0);
        assert!(Latencies::new().percentiles().is_none());
    }
}
