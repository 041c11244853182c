//! Commands: decided in batches in memory, appended at once, answered when the store has answered.
//!
//! T1  A command takes effect once or not at all. An answer says which; where nobody can know, it says that.
//! T2  A decision is bound to the versions it was made on: what is appended was true when it was appended.
//! T3  A command is refused only on a state that was read, or proved by an append, after the command had come in.
//! T4  The commands of one account are decided in the order they came in, whoever sent them.
//! T5  The same key with the same request is answered with the first receipt; with another request it is refused.
//! T6  A lone command is appended at once. Batches form of what waits meanwhile; for a batch to become as large as
//!     those beside it, a command waits 50 ms at most.
//! T7  Everything is bounded: what waits, what a batch holds, how long and how often anything is tried.
//!
//! One *dispatch* task owns what waits. It hands every command whose accounts are in no unfinished batch to a *job*, a
//! few of which run side by side. A job loads the accounts it does not know, decides its commands one after the other
//! against the evolving accounts, appends all commits in one call and answers each by its own fate.
//!
//! What its customer no longer waits for when its batch begins is dropped, and has no effect. A customer whose request
//! took too long was told that nobody knows (T1), which stays true: he cannot know whether his batch had begun. Once it
//! has, it is carried out whoever waits.
//!
//! Why it holds: an account is in one job at a time (`claims.rs`), so within a process decisions on an account stand in
//! a line, a transfer claims both of its accounts and never collides, and a busy account costs one append for all that
//! waited for it. Within a batch, a command that has to be decided again keeps what stands behind it at its accounts
//! for the next round as well. Between processes the store's law S2 decides: the slower job is told of the conflict,
//! reads on and decides again. What a process keeps in memory of an account is a prefix of its stream; it may be old
//! and is never wrong, so an accepted command needs no read at all, and a refusal only the one that T3 asks for. A
//! commit keeps its id over all attempts, so by law S4 a repeat after an unknown outcome has no second effect.
//!
//! What is not promised: a refusal is not remembered under its key. A request that one process refuses while its first
//! attempt is still under way in another may therefore take effect after all, and repeating it then says so. And where
//! another process was faster at one account of a refused transfer, that transfer is decided again, perhaps behind a
//! later command at its other account.

mod append;
mod books;
mod cache;
mod claims;
mod decide;
mod desk;
mod dispatch;
mod hash;
mod job;
mod load;
mod outcome;
mod patience;
mod receipt;
mod snapshots;
mod teller;
#[cfg(test)]
mod tests;

pub use desk::Settings;
pub use outcome::{CommandError, Outcome, Request};
pub use receipt::{AccountAfter, Receipt, Transaction};
pub use teller::Teller;
