//! The services together, in process, on the embedded backends: what a user relies on, end to end.
#![expect(clippy::unwrap_used, reason = "a test may")]
#![expect(clippy::disallowed_methods, reason = "a test's tasks need no supervisor")]

mod bank;
mod check;
mod ownership;
mod parking;
mod partitions;
mod rebuild;
mod recovery;
mod routine;
mod verify;
