//! Commands: decided in memory in batches, appended together, answered when the store has answered.
//!
//! T1  A command takes effect once or not at all. The answer says which, or that the outcome is unknown.
//! T2  A decision is bound to the versions it was made on: a commit is appended only if its decision still holds then.
//! T3  A command is refused only on a state that was read, or proved by an append, after the command had come in.
//! T4  The commands of one account are decided in the order they came in, whoever sent them.
//! T5  A repeated key with the same request gets the first receipt; with a different request it is refused.
//! T6  A lone command is appended at once. Commands that arrive meanwhile form batches; a command waits at most 50 ms
//!     for its batch to be large enough beside those under way.
//! T7  Everything is bounded: the number of waiting commands, the size of a batch, the time to load its accounts, the
//!     time and number of attempts.
//!
//! One *dispatch* task owns the waiting commands. It hands those whose accounts are in no unfinished batch to *jobs*, a
//! few of which run concurrently. A job loads the accounts it does not know, decides its commands in order, each on the
//! accounts as the ones before it left them, appends all commits in one call and answers each command by the fate of
//! its own commit. An account that cannot be loaded in time is left out: its commands are answered as unavailable,
//! which is no refusal, and the others of the batch are decided (`load.rs`).
//!
//! A command whose customer has gone when its batch begins is dropped and has no effect. A customer whose request timed
//! out was told that the outcome is unknown (T1), which stays true: the customer cannot know whether the batch had
//! begun. Once begun, a batch is carried out even if nobody waits for it.
//!
//! Why this holds: an account is in one job at a time (`claims.rs`). So within a process, decisions on an account are
//! sequential, a transfer claims both of its accounts and never conflicts, and a busy account costs one append for all
//! of its waiting commands. Within a batch, a command that has to be decided again takes the later commands at its
//! accounts into the next round with it. Between processes the store's law S2 decides: the slower job gets a conflict,
//! reads on and decides again. What a process keeps of an account in memory is a prefix of its stream, which may be old
//! but is never wrong: an accepted command needs no read at all, and a refusal only the one that T3 requires. A commit
//! keeps its id in all attempts, so by law S4 a repeat after an unknown outcome has no second effect.
//!
//! Not promised: a refusal is not remembered under its key. A request that one process refuses while its first attempt
//! is still under way in another may therefore take effect after all, and repeating it then says so. Likewise a repeat
//! that is turned away while its first attempt is under way is told that it had no effect, which says nothing about the
//! first. And a refused transfer is decided again, perhaps after a later command at its other account, if what it was
//! decided on did not happen at one of them: another process was faster there, or a command before it turned out to
//! repeat a key that was taken earlier. Letting all commands behind such a transfer wait for that would cost a round
//! for each refusal that follows a command with a key, and an account near its limit would run out of attempts.

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
