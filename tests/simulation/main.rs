//! The bank in a simulated world: the production services over simulated ports, in thousands of seeded schedules.
//!
//! A schedule draws how many processes and clients there are, which faults strike and how often. The [`world`] judges
//! every effect when it happens; [`verdict`] judges the whole once all faults are healed. The same seed gives the same
//! trace. `BANK_SIMULATIONS` says how many schedules are run, `BANK_SIMULATION_SEED` runs one again.
//!
//! Without faults the same world counts how often the services call their backends: [`costs`].

mod chaos;
mod client;
mod contracts;
mod costs;
mod fleet;
mod journal;
mod operator;
mod options;
mod pace;
mod run;
mod schedules;
mod settings;
mod verdict;
mod world;
