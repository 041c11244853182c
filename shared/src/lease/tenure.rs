//! Acting while a lease lasts.
//!
//! A1  Work begins after the grant and is dropped before the lease expires at the backend: the holder's deadline counts
//!     from the moment before it asked.
//! A2  A lease is released only when the work has ended by itself, never while it may still be acting.
//!
//! Dropping the work cannot undo a call that is already in flight, and a process that was frozen may still make the one
//! before which it stood. That is why every write is guarded by version, revision or epoch, and this module only saves
//! work.

use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Lease, LeaseStore, RenewError};
use crate::telemetry::metric::LEASES_LOST;

/// How often a lease is renewed within its time to live.
pub const RENEWALS_PER_TTL: u32 = 3;

/// How a tenure ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// The work ended with this result, and the lease was released.
    Done(T),
    /// The lease was lost; the work was dropped where it stood.
    Lost,
}

/// Does the work while renewing the lease, which was asked for at `asked` and granted for `ttl`.
pub async fn act_while_held<L: LeaseStore, T>(
    leases: &L,
    lease: Lease,
    asked: Instant,
    ttl: Duration,
    work: impl Future<Output = T>,
) -> Ended<T> {
    let outcome = tokio::select! {
        biased;
        () = renew_until_lost(leases, &lease, asked, ttl) => None,
        result = work => Some(result),
    };
    let Some(result) = outcome else {
        counter!(LEASES_LOST.name).increment(1);
        warn!(lease = %lease.name(), epoch = %lease.epoch(), "lease lost");
        return Ended::Lost;
    };
    let name = lease.name().clone();
    // A lease that cannot be released expires by itself: that costs the next holder some waiting.
    match tokio::time::timeout(ttl, leases.release(lease)).await {
        Ok(Ok(())) => debug!(lease = %name, "lease given back"),
        Ok(Err(failure)) => debug!(lease = %name, %failure, "lease not given back, it will expire"),
        Err(_) => debug!(lease = %name, "lease not given back in time, it will expire"),
    }
    Ended::Done(result)
}

async fn renew_until_lost<L: LeaseStore>(leases: &L, lease: &Lease, asked: Instant, ttl: Duration) {
    let pause = ttl / RENEWALS_PER_TTL;
    let mut deadline = asked + ttl;
    loop {
        tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
        if Instant::now() >= deadline {
            return;
        }
        let asked = Instant::now();
        match tokio::time::timeout_at(deadline, leases.renew(lease, ttl)).await {
            Ok(Ok(())) => deadline = asked + ttl,
            Ok(Err(RenewError::Lost)) | Err(_) => return,
            Ok(Err(RenewError::Backend(failure))) => {
                debug!(lease = %lease.name(), %failure, "lease not renewed, trying again");
            }
        }
    }
}
