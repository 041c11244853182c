//! The contracts of the ports and network faults, tested on real servers.
//!
//! `./scripts/servers up` starts them, `eval "$(./scripts/servers env)"` gives their URLs to these tests. Every test
//! uses names of its own, so that all of them may share one set of servers. Tests of bad settings, of lost servers and
//! of TLS start servers of their own ([`own`]), whose programs `eval "$(./scripts/servers programs)"` gives them.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod certificates;
mod durability;
mod elastic;
mod failover;
mod forwarding;
mod listener;
mod mongo;
mod mongo_append;
mod mongo_costs;
mod mongo_schema;
mod nats;
mod nats_costs;
mod nats_damage;
mod nats_faults;
mod network;
mod own;
mod redis;
mod redis_faults;
mod request;
mod secure;
mod server;
mod tap;
mod tls;
