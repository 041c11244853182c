//! The account service: takes commands over HTTP and appends the events that carry them out.
//!
//! [`account`] holds the rules and knows no I/O; [`command`] decides commands in batches and appends them;
//! [`statement`] lists what happened to an account; [`router`] and [`run`] put HTTP in front of it.

pub mod account;
pub mod command;
mod http;
mod service;
mod statement;
#[cfg(test)]
mod testing;

pub use http::router;
pub use service::{AccountServiceConfig, run};
