//! Proof that a generation equals the store, while both go on; and the repair of what does not.
//!
//! P1  A document is right if it is the fold of its account's first events, as many as its version says. So any version
//!     can be checked at any time, and traffic causes no false alarm.
//! P2  A difference counts only if it is there at every look until the patience is over, and the patience begins anew
//!     while documents come nearer to the store: a view that is late is waited for, within a bound. A document is
//!     missing or behind only if it stays below the head the store had when it was first looked at; later events ask
//!     nothing more of it.
//! P3  Memory does not grow with the number of accounts: streams pass in pages, and at most [`SUSPECTS_MAX`] accounts
//!     and a page wait to be looked at again. Store and index are asked in batches, never account by account.
//! P4  A repair writes what the store's events fold to, at the version that stands there or above it. What the store
//!     has no events for is left alone: nothing is deleted, and nothing is set back.
//!
//! [`scan`] folds every stream of a partition once, in the sorted order of the store, and compares each document in
//! passing; [`orphans`] looks for documents that the store does not list. What looks wrong is a suspect, since
//! something may have moved between the two readings, and [`suspects`] looks at it again, by itself, for as long as
//! [`waiting`] says. [`repair`] mends what stays wrong, and the partition is compared once more. [`check()`] does that
//! for the active generation, [`verify`] proves one that is not active yet.

mod check;
mod compare;
mod orphans;
mod repair;
mod report;
mod scan;
mod suspects;
mod verifier;
mod waiting;
mod walk;

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use shared::backends::Backends;
use shared::error::BackendError;
use shared::index::Generation;
use shared::partition::PartitionMap;

pub use check::{Check, CheckError, Progress, check};
pub use report::{FINDINGS_MAX, Fault, Finding, PartitionReport, Verification};
pub use suspects::SUSPECTS_MAX;
pub use verifier::{PATIENCE_DEFAULT, PATIENCE_MAX, PATIENCE_MIN, Running, Verifier};

use crate::right_of_way::RightOfWay;
use walk::Comparison;

/// How many partitions are compared at once.
const PARTITIONS_AT_ONCE: usize = 4;

/// How long a difference may be due to events in flight when a generation is proved before a switch, while nothing that
/// is late comes nearer: longer than a worker takes for a batch.
const PROOF_PATIENCE_MIN: Duration = Duration::from_secs(12);

/// The same in leases: when a process dies, its partitions are without a worker until their leases have ended and
/// another process has noticed.
const PROOF_PATIENCE_LEASES: u32 = 3;

/// How patient a proof is where leases last so long (law P2).
#[must_use]
pub fn proof_patience(lease_ttl: Duration) -> Duration {
    PROOF_PATIENCE_MIN.max(lease_ttl * PROOF_PATIENCE_LEASES)
}

/// Compares a generation with the store, and gives way to workers that are late. `patience` is how long a difference
/// may be due to events in flight (law P2).
///
/// # Errors
/// A backend failed; nothing can be said about the generation then.
pub async fn verify<B: Backends>(
    backends: &B,
    generation: Generation,
    partitions: PartitionMap,
    patience: Duration,
    right_of_way: &RightOfWay,
) -> Result<Verification, BackendError> {
    let progress = Progress::default();
    let mut parts = stream::iter(partitions.all())
        .map(async |partition| {
            let slots = partitions.slots(partition);
            let progress = &progress;
            Comparison { backends, generation, slots, patience, progress, right_of_way }.run().await
        })
        .buffered(PARTITIONS_AT_ONCE);
    let mut verification = Verification::default();
    while let Some(part) = parts.next().await {
        verification.merge(part?);
    }
    Ok(verification)
}
