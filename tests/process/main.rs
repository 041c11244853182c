//! The real process, as a user meets it: started, asked over HTTP, killed, started again.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod bank;
mod bench;
#[path = "../customers/mod.rs"]
mod customers;
mod full_disk;
mod import;
mod kill;
mod readme;
mod rebuild;
mod serve;
mod verify;
