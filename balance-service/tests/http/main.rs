//! The routes of the balance service, asked in process over the embedded backends.
#![expect(clippy::unwrap_used, reason = "a test may")]

mod description;
mod faults;
mod fixture;
mod lists;
mod parked;
mod ready;
mod rebuilds;
mod verify;
mod waits;
