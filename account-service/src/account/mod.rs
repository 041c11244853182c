//! The rules of the bank, without I/O: what an account is, and which commands it takes.
//!
//! AC1  An open account's balance is its opening balance plus all money that came in minus all money that went out, and
//!      is never below minus its overdraft limit.
//! AC2  [`decide()`] answers a command with the events that carry it out, or with one [`Rejection`] that says why not.
//!      It never panics and never changes anything.
//! AC3  The events of an accepted command fit the accounts it was decided on: [`Account::evolve`] accepts them all.
//! AC4  A transfer moves the same amount on both sides, or nothing at all.
//!
//! A command is decided as a whole and not account by account, because some rules involve both sides of a transfer: for
//! example, both must have the same currency.

mod command;
mod decide;
mod evolve;
mod rejection;
mod state;
#[cfg(test)]
mod tests;

pub use command::Command;
pub use decide::{Decided, decide};
pub use evolve::Misfit;
pub use rejection::Rejection;
pub use state::{Account, Status};
