//! The fold: from the events of one account, in order, to its balance. Pure: no clock, no randomness, no I/O.
//!
//! D1  The balance at version k is the fold of events 1 ..= k and of nothing else.
//! D2  Version n + 1 applies to a balance at n; n and below are skipped; anything higher is a gap, never folded over.
//! D3  An event that cannot be folded changes nothing: the balance stays at the version before it.

mod balance;
mod folding;

pub use balance::{FoldError, fold};
pub(crate) use folding::projected;
pub use folding::{Folding, Taken};
