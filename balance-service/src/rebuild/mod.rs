//! Rebuilding the projection while the bank is running, verifying the result, and rolling it back.
//!
//! A rebuild is a second projection with its own checkpoints. While a job runs, the owner of each partition works on
//! two generations: the active one as usual, and the new one, which it fills from the store and then feeds from the
//! log. The [`conductor`] takes the job through its states; every step is noted in the store before the next one begins
//! and can be repeated, so any process may die at any step and another one continues.
//!
//! B1  Nothing is lost. The worker of the new generation notes the end of its partition *before* it scans the store. A
//!     commit that the scan does not see was made after the scan passed its stream, so it is published after the noted
//!     end, where the worker continues to read.
//! B2  Nothing is counted twice. What both the scan and the log deliver is skipped by version.
//! B3  Readers never see a missing or partial view. They read the active generation, which is fed until the switch.
//! B4  Readers never see an older view. Before the switch the active generation is sealed, and every document of the
//!     new one is brought to at least the version of the sealed one. The view stands still meanwhile, but never goes
//!     back. An index of several nodes is one index only to readers that ask the same node: another one may learn of
//!     the switch a moment later.
//! B5  Queries never switch to an unverified generation: every document was compared with the fold of its stream.
//! B6  There is one job at a time, decided by compare-and-set on one register.
//! B7  No generation is discarded that a running job names or may yet name, whoever was frozen meanwhile. Whoever
//!     discards reads the job, lists the generations, writes the job at the revision it has read, and then discards
//!     what it has listed and the written job does not need. A job comes to name a generation by a write too: a
//!     conductor writes at the revision that it had before it made the generation, a rollback at that of the job that
//!     kept it. If that revision is the one the discarding conductor has read, or an earlier one, of both writes the
//!     second is refused; if it is a later one, the discarding conductor's own write is. What a cancelled job names is
//!     discarded after it was written as cancelled, and is never named again.
//!
//! After the switch the previous generation is still fed for as long as it is kept, so a rollback is just another
//! switch, and the same argument holds.

mod conductor;
mod discard;
mod job;
mod requests;
mod status;
mod switch;
#[cfg(test)]
mod two_at_once;

pub(crate) use conductor::{Conductor, conduct};
pub(crate) use job::fed;
pub use job::{Job, JobFile, JobId, JobState, Purpose, Target};
pub use requests::{RebuildRefusal, Rebuilds};
pub use status::{PartitionProgress, RebuildStatus, look_again_after};
