//! Proof that a generation equals the store, while both go on.
//!
//! P1  A document is right if it is the fold of its account's first events, as many as its version says. So any version
//!     can be checked at any time, and traffic causes no false alarm.
//! P2  A document is missing or behind only if it stays below the head the store had when it was first looked at.
//!
//! [`scan`] folds every stream of a partition once, in the sorted order of the store, and compares each document in
//! passing. What looks wrong because something moved meanwhile is kept as a suspect and looked at again, by itself.

mod compare;
mod report;
mod scan;
mod suspects;

use futures::StreamExt;
use futures::stream;
use shared::backends::Backends;
use shared::error::BackendError;
use shared::index::Generation;
use shared::partition::PartitionMap;

pub use report::{FINDINGS_MAX, Fault, Finding, Verification};

/// How many partitions are compared at once.
const PARTITIONS_AT_ONCE: usize = 4;

/// Compares a generation with the store.
///
/// # Errors
/// A backend failed; nothing can be said about the generation then.
pub async fn verify<B: Backends>(
    backends: &B,
    generation: Generation,
    partitions: PartitionMap,
) -> Result<Verification, BackendError> {
    let mut parts = stream::iter(partitions.all())
        .map(|partition| async move {
            let slots = partitions.slots(partition);
            let mut verification = Verification::default();
            let suspects = scan::scan(backends, generation, slots, &mut verification).await?;
            let orphans = scan::orphans(backends, generation, slots).await?;
            suspects::judge(backends, generation, suspects, orphans, &mut verification).await?;
            Ok::<_, BackendError>(verification)
        })
        .buffered(PARTITIONS_AT_ONCE);
    let mut verification = Verification::default();
    while let Some(part) = parts.next().await {
        verification.merge(part?);
    }
    Ok(verification)
}
