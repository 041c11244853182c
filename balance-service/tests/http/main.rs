//! The routes of the balance service, asked in process over the embedded backends.
#![expect(clippy::unwrap_used, reason = "a test may")]

mod away;
mod description;
mod fixture;
mod lists;
mod parked;
mod ready;
mod rebuilds;
mod rough;
mod verify;
mod waits;
