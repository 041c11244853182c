//! Repairs: wrong documents are written anew from the store (laws P4 and P5 of [`crate::verify`]).
//!
//! A worker keeps the balances it wrote last in memory. If it had loaded a wrong document, it would fold the next event
//! onto that, and so undo any repair that somebody else makes. So a check leaves a [`request`] for the worker of the
//! partition, which carries it out between two batches: it forgets what it keeps in memory, and then writes the
//! documents that were found wrong anew ([`mod@rewrite`]). Without a worker, the check does that itself.
//!
//! A request is a register of the store. Whoever carries it out removes it afterwards, and to do so twice is harmless:
//! one that is left behind by a process that died is carried out by the next worker.

mod request;
mod rewrite;

use std::time::Duration;

use shared::backends::Backends;
use shared::id::AccountId;
use shared::index::{ApplyError, Generation};
use shared::partition::Partition;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::partition_lease::has_owner;
pub(crate) use request::{Request, requested, requests};
pub(crate) use rewrite::rewrite;

/// How many accounts are requested at once: about 200 kilobytes, and a few seconds of a worker's time.
const REQUESTED_AT_ONCE: usize = 5_000;

/// How long a request waits for the worker: longer than it takes to notice one, to write a large batch, and to carry a
/// request out.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(30);

/// How often whoever left a request checks whether it was carried out.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Has the worker of a partition forget what it keeps in memory, and documents rewritten. The next comparison tells
/// whether that was enough.
///
/// # Errors
/// A backend failed, or the index refused a write; some of the documents may be rewritten.
pub(crate) async fn repair<B: Backends>(
    backends: &B,
    generation: Generation,
    partition: Partition,
    accounts: &[AccountId],
) -> Result<(), ApplyError> {
    for accounts in accounts.chunks(REQUESTED_AT_ONCE) {
        if !ask_worker(backends, generation, partition, accounts).await? {
            rewrite(backends, generation, accounts).await?;
        }
    }
    Ok(())
}

/// Has the worker of a partition, if there is one, forget what it keeps in memory.
///
/// # Errors
/// A backend failed.
pub(crate) async fn forget<B: Backends>(
    backends: &B,
    generation: Generation,
    partition: Partition,
) -> Result<(), ApplyError> {
    ask_worker(backends, generation, partition, &[]).await.map(|_| ())
}

/// Leaves a request for the worker of the partition and waits until it was carried out; `false` if there is no worker,
/// or none that has time.
async fn ask_worker<B: Backends>(
    backends: &B,
    generation: Generation,
    partition: Partition,
    accounts: &[AccountId],
) -> Result<bool, ApplyError> {
    let request = Request { generation, accounts: accounts.to_vec() };
    let (store, until) = (backends.store(), Instant::now() + CARRIED_OUT_WITHIN);
    let mut left_at = None;
    while Instant::now() < until && has_owner(backends.leases(), partition).await? {
        match (left_at, request::revision(store, partition).await?) {
            (None, None) => left_at = request::leave(store, partition, &request).await?,
            (Some(left), there) if there != Some(left) => return Ok(true),
            // The request of another check goes first, or the worker has not carried out this one yet.
            (None | Some(_), _) => {}
        }
        sleep(LOOK_EVERY).await;
    }
    let Some(left) = left_at else { return Ok(false) };
    let is_withdrawn = request::remove(store, partition, left).await?;
    if is_withdrawn {
        warn!(%partition, "no worker has carried out the request for a repair");
    }
    Ok(!is_withdrawn)
}
