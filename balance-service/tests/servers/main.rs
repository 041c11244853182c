//! Workers and rebuilds on a real Elasticsearch, with all other backends embedded.
//!
//! `./scripts/servers up elastic` starts it, `eval "$(./scripts/servers env)"` gives its URL to these tests.
#![expect(clippy::unwrap_used, reason = "a test may")]
#![expect(clippy::disallowed_methods, reason = "a test's tasks need no supervisor")]

mod bank;
mod by_hand;
mod pressure;
