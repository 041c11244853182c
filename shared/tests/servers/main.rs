//! The contracts of the ports and the faults of the wire, held against real servers.
//!
//! `./scripts/servers up` starts them, `eval "$(./scripts/servers env)"` names them to these tests. Every test uses
//! names of its own, so that all of them may share one set of servers.

mod elastic;
mod mongo;
mod nats;
mod redis;
mod server;
