//! The balance service: projects events into balances, answers queries, and rebuilds the projection while the bank is
//! running.
//!
//! The path of an event: [`ownership`] decides which process owns its partition, a [`worker`] for each generation reads
//! it from the log, [`fold`] folds it into a balance, the index stores the balance, and a query of [`http`] returns it.
//! [`rebuild`] builds a new generation of all balances, verifies it with [`verify`] and switches queries to it.

mod config;
pub mod fold;
pub mod http;
mod nudge;
mod ownership;
mod pages;
pub mod parking;
mod partition_lease;
mod projection;
pub mod rebuild;
mod refill;
mod repair;
mod right_of_way;
mod roster;
mod service;
mod stint;
#[cfg(test)]
mod testing;
pub mod verify;
mod visibility;
mod worker;

pub use config::BalanceConfig;
pub use nudge::Nudge;
pub use projection::project;
pub use right_of_way::RightOfWay;
pub use service::run;
pub use visibility::{Visibility, Watch};
