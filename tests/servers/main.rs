//! The product's commands beside a bank on real servers.
//!
//! `./scripts/servers up` starts them, `eval "$(./scripts/servers env)"` gives their URLs to these tests. A missing
//! server fails a test: a skipped one would prove nothing and look green. Every test has a namespace of its own.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod bank;
mod limits;
#[path = "../customers/program.rs"]
mod program;
mod verify;
