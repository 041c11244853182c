//! What the bank tells about itself: numbers by [`metric`], read at `/metrics`.

pub mod metric;
mod recorder;

pub use recorder::{MetricsError, MetricsReader, install_metrics};
