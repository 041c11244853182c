//! What the bank's work costs: how often the services call their backends, counted and never timed.
//!
//! The services run as in production over a simulated world in which nothing fails and calls take some milliseconds.
//! The world counts every call of a port, and every run makes the same calls. Each test lists the calls that some
//! thousand commands, events or accounts may cost, how many of each at most, and why. A call too many, or one that is
//! not listed, fails the test: so no round trip per event can slip in. A bound far above the count proves nothing, so
//! one above twice the count fails as well.

mod bank;
mod bill;
mod commands;
mod idle;
mod pipeline;
mod projection;
