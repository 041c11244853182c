//! The account service: takes commands over HTTP and appends the events that carry them out.
//!
//! [`account`] holds the rules and knows no I/O; [`command`] decides commands in batches and appends them.

pub mod account;
pub mod command;
