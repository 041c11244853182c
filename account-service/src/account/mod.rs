//! The rules of the bank, without I/O: what an account is, and which commands it takes.
//!
//! AC1  An open account's balance is its opening plus everything that came in less everything that went out, and never
//!      lies below minus its overdraft limit.
//! AC2  [`decide()`] answers a command with the events that carry it out, or with the one [`Rejection`] that says why
//!      not. It never panics and never changes anything.
//! AC3  The events of an accepted command fit the accounts it was decided on: [`Account::evolve`] takes them all.
//! AC4  A transfer moves the same amount on both sides, or nothing at all.
//!
//! Why a whole command is decided at once and not account by account: some rules need both sides of a transfer, such as
//! the one that they share a currency.

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
