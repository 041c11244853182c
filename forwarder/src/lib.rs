//! The forwarder: tails the event store and publishes every write to the partition of its account.
//!
//! F1  The checkpoint moves only behind acknowledged publishes, so a crash leads to repeats and never to a hole.
//! F2  Within a partition the writes of a stream are published in version order, none left out.
//! F3  A log that lost records is noticed where the forwarder can see it, and then renewed, so that every reader
//!     notices too and synchronises with the store.
//!
//! One forwarder leads at a time, by lease; two at once are harmless, since each publishes from a checkpoint behind
//! which everything was published by somebody, and workers skip repeats by version.
//!
//! The path of an event: [`lead`] takes the lease, [`resume`] decides where to start, [`forward`] reads the feed and
//! routes, [`publish`] appends to each partition with what it believes about the partition's end, [`checkpoint`] notes
//! how far that came. Meanwhile [`trim`] forgets what every projection has behind it, sooner where a partition is
//! [`full`], and [`operations`] tells an operator how it goes.

mod checkpoint;
mod config;
mod forward;
mod full;
mod lead;
mod operations;
mod publish;
mod resume;
mod trim;

pub use config::ForwarderConfig;
pub use lead::{ForwardError, LEADER_LEASE, run};
pub use operations::serve_operations;
