//! Verifying that a generation equals the store while both keep changing, and repairing what differs.
//!
//! P1  A document is right if it is the fold of its account's events up to its version. So any version can be checked
//!     at any time, and traffic causes no false alarm.
//! P2  A difference counts only if every look finds it until the patience is over, and the patience starts again when
//!     documents have come closer to the store: a late view is waited for, within a bound. A document is missing or
//!     behind only if it stays below the head the store had at the first look; later events do not matter. Without any
//!     patience, since nothing is in flight, it is told so at once, and one that is behind is compared all the same.
//! P3  Memory does not grow with the number of accounts: streams are read in pages, and at most [`SUSPECTS_MAX`]
//!     accounts and a page wait to be looked at again. Store and index are read in batches, never account by account.
//! P4  A repair writes the fold of the store's events, at the document's version or above it. A document for which the
//!     store lacks the events is left alone: nothing is deleted, and nothing is set back.
//! P5  While a partition has a worker, that worker makes its repairs, between two of its batches, and first forgets
//!     every balance it keeps in memory. A check that may repair has it do so once before it compares. So no document
//!     that is written later builds on one that was wrong.
//!
//! A difference is only a suspect at first, since something may have changed between the reads of store and index: it
//! is looked at again, on its own. [`crate::repair`] rewrites what stays wrong, and the partition is compared anew.
//! [`check()`] does this for the active generation when a client asks for it, [`routine`] now and then without being
//! asked, and [`verify`] verifies a generation that is not active yet. A check that names [`accounts`] takes these for
//! its suspects, and reads their streams and documents only.
//!
//! | module | is given | gives |
//! |---|---|---|
//! | [`verifier`] | the check that a client requests | the reports of that check, or that another one runs |
//! | [`mod@check`] | partitions or accounts to check | a report of each partition, before and after its repairs |
//! | [`accounts`] | the accounts that a check names | these as suspects, by partition |
//! | [`walk`] | the slots of a partition | what is wrong in them, stretch by stretch, and in the end the counts |
//! | [`scan`] | the streams of the slots, in the store's order | documents that are not their fold, as suspects |
//! | [`orphans`] | the documents of the slots, beside the heads of the streams | those without a stream, as suspects |
//! | [`suspects`] | suspects, each with the head of its stream | findings: what still is wrong when the wait is over |
//! | [`waiting`] | the findings of each look | the pause before the next look, or that the wait is over (law P2) |
//! | [`compare`] | a document and a fold of the same version | the first field that differs |
//! | [`report`] | findings | their counts by fault, and the first few of them |
//! | [`routine`] | when the view was verified last | the next verification, once it is due |
//! | [`note`] | the reports of a whole check, or what the routine has found | a note of it in the store |
//! | [`turn`] | who requests a check in this process | one at a time, and whether one runs |

mod accounts;
mod check;
mod compare;
mod note;
mod orphans;
mod report;
mod routine;
mod scan;
mod suspects;
mod turn;
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

pub use accounts::{ACCOUNTS_MAX, Accounts, AccountsError};
pub use check::{Check, CheckError, Progress, Scope, check};
pub(crate) use note::note_by_job;
pub use report::{FINDINGS_MAX, Fault, Finding, PartitionReport, Verification};
pub(crate) use routine::Routine;
pub use suspects::SUSPECTS_MAX;
pub use turn::Turn;
pub use verifier::{PATIENCE_DEFAULT, PATIENCE_MAX, PATIENCE_MIN, Running, Verifier};

use crate::right_of_way::RightOfWay;
use walk::Comparison;

/// How many partitions are compared at once.
const PARTITIONS_AT_ONCE: usize = 4;

/// How long a difference may be due to events in flight when a generation is verified before a switch, while no late
/// document comes closer: longer than a worker takes for a batch.
const VERIFICATION_PATIENCE_MIN: Duration = Duration::from_secs(12);

/// The same in leases: when a process dies, its partitions have no worker until their leases have expired and another
/// process has noticed.
const VERIFICATION_PATIENCE_LEASES: u32 = 3;

/// The patience of a verification before a switch, where leases last this long (law P2).
#[must_use]
pub fn verification_patience(lease_ttl: Duration) -> Duration {
    VERIFICATION_PATIENCE_MIN.max(lease_ttl * VERIFICATION_PATIENCE_LEASES)
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
