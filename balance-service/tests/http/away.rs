//! A log and leases that fail.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::coordinate::{Epoch, Offset};
use shared::error::BackendError;
use shared::lease::{Held, Holder, Lease, LeaseName, LeaseStore, RenewError};
use shared::log::{EmbeddedReader, Extent, Incarnation, PartitionLog, PublishError, ReadError};
use shared::partition::Partition;
use shared::store::FeedEntry;

/// A log, or leases, of which every call fails.
#[derive(Clone)]
pub(crate) struct Away;

fn failure(operation: &'static str) -> BackendError {
    BackendError::not_done(operation, "the server is away")
}

impl PartitionLog for Away {
    type Reader = EmbeddedReader;

    async fn extent(&self, _: Partition) -> Result<Extent, BackendError> {
        Err(failure("extent"))
    }

    async fn publish(&self, _: Partition, _: &Incarnation, _: Offset, _: &[FeedEntry]) -> Result<Offset, PublishError> {
        Err(failure("publish").into())
    }

    async fn reader(&self, _: Partition, _: &Incarnation, _: Offset) -> Result<EmbeddedReader, ReadError> {
        Err(failure("reader").into())
    }

    async fn trim(&self, _: Partition, _: Offset, _: Timestamp) -> Result<u64, BackendError> {
        Err(failure("trim"))
    }

    async fn renew(&self, _: Partition, _: &Incarnation) -> Result<Extent, BackendError> {
        Err(failure("renew"))
    }
}

impl LeaseStore for Away {
    async fn acquire(&self, _: &LeaseName, _: &Holder, _: Duration, _: Epoch) -> Result<Option<Lease>, BackendError> {
        Err(failure("acquire"))
    }

    async fn renew(&self, _: &Lease, _: Duration) -> Result<(), RenewError> {
        Err(failure("renew").into())
    }

    async fn release(&self, _: Lease) -> Result<(), BackendError> {
        Err(failure("release"))
    }

    async fn list(&self, _: &str) -> Result<Vec<Held>, BackendError> {
        Err(failure("list"))
    }
}
