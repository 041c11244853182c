//! Metrics are recorded once per process and read by `/metrics` of every service in it.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::metric::{
    APPEND_CONFLICTS, DOCUMENTS_EDITED, DOCUMENTS_UNREADABLE, FORWARDER_POSITIONS_LOST, Kind, LEASES_LOST, METRICS,
    Metric,
};
use crate::partition::Partition;

/// Bounds of the distributions of time, in seconds: from a command in memory to the longest wait that a request is
/// allowed.
const SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Bounds of the distributions of sizes.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// Counters without labels that alarms watch. They are shown from the start: a query for how much a counter grew sees
/// no step from absent to one. Those with labels begin where their labels are known.
const WATCHED: &[Metric] =
    &[APPEND_CONFLICTS, FORWARDER_POSITIONS_LOST, DOCUMENTS_UNREADABLE, DOCUMENTS_EDITED, LEASES_LOST];

/// How often samples of distributions are put into their buckets. Until then they take memory, even if nobody reads
/// them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Reads the metrics of the process.
#[derive(Clone)]
pub struct MetricsReader(PrometheusHandle);

impl MetricsReader {
    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

impl std::fmt::Debug for MetricsReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsReader")
    }
}

/// Why metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[error("cannot initialize metrics: {0}")]
pub struct MetricsError(Box<dyn std::error::Error + Send + Sync>);

static INSTALLED: Mutex<Option<MetricsReader>> = Mutex::new(None);

/// Starts recording, once per process: every further call returns the same reader.
///
/// # Errors
/// If another recorder is installed, or no thread can be started.
pub fn install_metrics() -> Result<MetricsReader, MetricsError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reader) = &*installed {
        return Ok(reader.clone());
    }
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        let bounds = match metric.kind {
            Kind::Counter | Kind::Gauge => continue,
            Kind::Seconds => SECONDS,
            Kind::Sizes => SIZES,
        };
        let matcher = Matcher::Full(metric.name.to_owned());
        builder = builder.set_buckets_for_metric(matcher, bounds).map_err(|failure| MetricsError(failure.into()))?;
    }
    let handle = builder.install_recorder().map_err(|failure| MetricsError(failure.into()))?;
    describe();
    for metric in WATCHED {
        counter!(metric.name).increment(0);
    }
    let upkeep = handle.clone();
    thread::Builder::new()
        .name("metrics-upkeep".to_owned())
        .spawn(move || {
            loop {
                thread::sleep(UPKEEP_EVERY);
                upkeep.run_upkeep();
            }
        })
        .map_err(|failure| MetricsError(failure.into()))?;
    let reader = MetricsReader(handle);
    *installed = Some(reader.clone());
    Ok(reader)
}

/// Shows the counters of a partition before they first move, as those of [`WATCHED`].
pub fn show_from_the_start(counters: &[Metric], partition: Partition) {
    for metric in counters {
        counter!(metric.name, "partition" => partition.to_string()).increment(0);
    }
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Seconds | Kind::Sizes => describe_histogram!(metric.name, metric.help),
        }
    }
}
