//! What may happen to a bank, one scenario a file. Each has a bank of its own and ends with the verdict.

mod busy_index;
mod deleted_index;
mod emptied_leases;
mod emptied_log;
mod few_permissions;
mod killed_rebuilds;
mod killed_servers;
mod killed_services;
mod lost_feed;
mod other_partitions;
mod readme;
mod rebuild_requests;
mod rebuilds;
mod recovery;
mod rolling_restarts;
mod troubled_wires;
mod zombies;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::tally::Tally;

/// A scenario and its name, under which it also logs.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) play: fn(&'static str, Arc<Tally>) -> BoxFuture<'static, ()>,
}

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        &[$(Scenario { name: stringify!($name), play: |name, tally| $name::play(name, tally).boxed() }),+]
    };
}

/// Those of a whole run, in the order in which they are played.
pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    readme,
    killed_services,
    zombies,
    killed_servers,
    troubled_wires,
    rolling_restarts,
    rebuilds,
    rebuild_requests,
    killed_rebuilds,
    deleted_index,
    emptied_log,
    emptied_leases,
    lost_feed,
    busy_index,
    other_partitions,
    few_permissions,
];

/// Those that measure, and are played only by name.
pub(crate) const MEASUREMENTS: &[Scenario] = scenarios![recovery];
