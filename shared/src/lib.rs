//! What all parts of the bank share: the domain types, the ports, their backends, and the plumbing.
//!
//! *Domain types* do no I/O: [`coordinate`], [`id`], [`money`], [`owner`], [`event`], [`partition`]. *Ports* are traits
//! with numbered laws: [`store`] (the only truth), [`log`] (ordered partitions between forwarder and workers),
//! [`lease`] (the right to act alone), [`index`] (the projection that clients query). Each port's folder holds its
//! backends and the contract suite that every backend passes; `CONTRIBUTING.md` says how to add a backend.
//!
//! The idea that holds it together: *version decides what is right; position and offset only decide where to start.*

#![cfg_attr(
    not(feature = "servers"),
    allow(
        clippy::unused_async,
        reason = "what waits for a server has nothing to wait for in a bank without its driver"
    )
)]

pub mod backends;
pub mod clock;
pub mod config;
pub mod coordinate;
pub mod durability;
pub mod error;
pub mod event;
pub mod http;
pub mod id;
pub mod index;
pub mod lease;
pub mod log;
pub mod money;
pub mod owner;
pub mod pace;
pub mod partition;
pub mod process;
#[cfg(feature = "contract")]
pub mod proxy;
pub mod retry;
pub mod sqlite;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod text;
