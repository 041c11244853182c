//! What the bank's work costs: how often the services ask their backends, counted and never timed.
//!
//! The services run as in production over a simulated world in which nothing fails and calls take some milliseconds.
//! The world counts every call of a port, and the same calls are made in every run. Each test lists what may be asked
//! for some thousand commands, events or accounts, how often at most, and why it needs to be so often. What is asked
//! more often, or was not expected at all, fails: so no round trip for each event can slip in. A bound that nothing
//! comes near proves nothing, so one above twice the count fails as well.

mod bank;
mod bill;
mod commands;
mod idle;
mod pipeline;
mod projection;
