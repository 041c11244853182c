//! The HTTP edge over real sockets: what a careless or hostile client can do, and what it gets.
#![expect(clippy::unwrap_used, reason = "a test may")]

mod client;
mod framing;
mod input;
mod lifetime;
mod operation;
mod server;
