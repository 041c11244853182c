//! The forwarder: tails the event store and publishes every write to the partition of its account.
//!
//! F1  The checkpoint advances only after acknowledged publishes, so a crash leads to repeats and never to a gap.
//! F2  Within a partition the writes of a stream are published in version order, none left out.
//! F3  A partition that lost records is renewed when the forwarder can detect the loss, so that every reader notices it
//!     too and synchronises with the store. It is detected by the next publish to the partition, or by a look: one is
//!     made every few seconds at each partition to which nothing is being published, however busy the others are.
//! F4  A partition that takes no writes holds up no other, until the forwarder holds as many writes as it may. Nor does
//!     it make the forwarder start again, which would publish to the others again what they have got meanwhile, as long
//!     as another one answers. Only a start without a usable position needs all of them to answer.
//!
//! One forwarder leads at a time, by lease. Two at once are harmless: everything up to the checkpoint that each of them
//! started from has been published, and workers skip repeats by version.
//!
//! The path of an event: [`lead`] takes the lease, [`resume`] decides where to start, [`forward`] reads the feed,
//! [`lanes`] routes its writes and keeps those that a partition has not taken yet, [`publish`] publishes them, stating
//! where it believes the partition ends, and [`checkpoint`] notes how far they have come. Meanwhile [`trim`] removes
//! records that no projection needs any more, sooner from a partition that is [`full`], and [`operations`] shows an
//! operator how the forwarder is doing.

mod checkpoint;
mod config;
#[cfg(test)]
mod fake_log;
#[cfg(test)]
mod fake_store;
mod forward;
mod full;
mod lanes;
mod lead;
mod operations;
mod publish;
mod resume;
mod trim;

pub use config::ForwarderConfig;
pub use lead::{ForwardError, LEADER_LEASE, run};
pub use operations::serve_operations;
