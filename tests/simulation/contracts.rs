//! Without faults the simulated world keeps every law of the ports: it passes the contract suites of the real backends.

use crate::world::fault::Faults;
use crate::world::{ProcessPorts, World};

fn ports() -> ProcessPorts {
    let world = World::new(1, Faults::none());
    world.with(|state| state.audit.believe());
    world.process("contract")
}

mod store {
    shared::store_contract!(async { (super::ports().store, ()) });
}

mod log {
    shared::log_contract!(async { (super::ports().log, ()) }, (start_paused = true));
}

mod lease {
    shared::lease_contract!(async { (super::ports().leases, ()) }, (start_paused = true));
}

mod index {
    shared::index_contract!(async { (super::ports().index, ()) }, (start_paused = true));
}
