//! The bank in a simulated world: the production services over simulated ports, in thousands of seeded schedules.
//!
//! A schedule draws how many processes and clients there are, which faults strike and how often. The [`world`] judges
//! every effect when it happens; [`verdict`] judges the whole when all faults are healed. The same seed gives the same
//! trace. `BANK_SIMULATIONS` says how many schedules are run, `BANK_SIMULATION_SEED` runs one again.
//!
//! The same world without faults counts what the services ask of their backends: [`costs`].

mod chaos;
mod client;
mod contracts;
mod costs;
mod fleet;
mod journal;
mod options;
mod pace;
mod run;
mod schedules;
mod settings;
mod verdict;
mod world;
