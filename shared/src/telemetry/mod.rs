//! What the bank reports about itself: logs, and [`metric`]s at `/metrics`. Neither holds personal data.

mod handles;
mod logs;
pub mod metric;
mod recorder;
mod seldom;

pub use handles::Handles;
pub use logs::{LogError, LogFilter, LogFilterError, init_logs};
pub use recorder::{MetricsError, MetricsReader, install_metrics, show_from_the_start};
pub use seldom::Seldom;
