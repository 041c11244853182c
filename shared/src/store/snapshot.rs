use std::future::Future;

use bytes::Bytes;

use crate::coordinate::Version;
use crate::error::BackendError;
use crate::id::AccountId;

/// The state of a stream at a version: a cache entry that may be missing or old, but never wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The stream.
    pub stream: AccountId,
    /// How many of the stream's events the state includes.
    pub version: Version,
    /// The number of the state's shape; a reader that does not know it ignores the snapshot.
    pub schema: u16,
    /// The state; opaque to the store.
    pub state: Bytes,
}

/// Snapshots, kept by the store alongside the events.
///
/// SN1  A snapshot of a lower version never replaces one of a higher version.
/// SN2  Losing a snapshot costs only time.
pub trait Snapshots: Clone + Send + Sync + 'static {
    /// The newest snapshots of these streams, in the order of `streams`.
    fn load_snapshots(
        &self,
        streams: &[AccountId],
    ) -> impl Future<Output = Result<Vec<Option<Snapshot>>, BackendError>> + Send;

    /// Saves snapshots.
    fn save_snapshots(&self, snapshots: Vec<Snapshot>) -> impl Future<Output = Result<(), BackendError>> + Send;
}
