//! Snapshots of long streams, saved in the background: losing one costs time only, so nothing ever waits for one.

use bytes::Bytes;
use shared::coordinate::Version;
use shared::store::{Snapshot, Snapshots};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::account::Account;

/// How many events of an account lie between two snapshots, and so about how many loading it reads at most.
const SNAPSHOT_EVERY: u64 = 500;

/// How many events a load reads at least for its account to be due for a snapshot: a young account has none yet, and
/// the next process would read the same again. Fewer are not worth a write.
const READ_FOR_SNAPSHOT: u64 = 100;

/// How many events of a long stream are read between two snapshots of what was read so far. They serve a process that
/// begins anew, so they may lie further apart.
const SNAPSHOT_EVERY_READ: u64 = 10_000;

/// How many accounts may wait for their snapshot; one that does not fit gets a snapshot the next time it is due.
pub(super) const SNAPSHOTS_WAITING_MAX: usize = 256;

/// Whether an account that grew from one version to the other is due for a snapshot.
pub(super) const fn is_due(from: Version, to: Version) -> bool {
    from.get() / SNAPSHOT_EVERY < to.get() / SNAPSHOT_EVERY
}

/// Whether an account that was read from one version to the other is due for a snapshot.
pub(super) const fn is_due_when_read(from: Version, to: Version) -> bool {
    is_due(from, to) || to.get().saturating_sub(from.get()) >= READ_FOR_SNAPSHOT
}

/// Whether an account of which this much was read, and of which there is more, is due for a snapshot.
pub(super) const fn is_due_while_read(from: Version, to: Version) -> bool {
    to.get().saturating_sub(from.get()) >= SNAPSHOT_EVERY_READ
}

/// Saves snapshots of incoming accounts until shutdown.
pub(super) async fn keep<S: Snapshots>(
    store: S,
    due: &mut mpsc::Receiver<Account>,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let mut accounts = Vec::new();
    loop {
        let received = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            received = due.recv_many(&mut accounts, SNAPSHOTS_WAITING_MAX) => received,
        };
        if received == 0 {
            return Ok(());
        }
        let snapshots = accounts.drain(..).map(|account| snapshot_of(&account)).collect();
        if let Err(failure) = super::load::in_time("save_snapshots", store.save_snapshots(snapshots)).await {
            warn!(%failure, "cannot save snapshots");
        }
    }
}

fn snapshot_of(account: &Account) -> Snapshot {
    let state = serde_json::to_vec(account).expect("an account has no maps and so always becomes JSON");
    Snapshot { stream: account.id, version: account.version, schema: Account::SCHEMA, state: Bytes::from(state) }
}
