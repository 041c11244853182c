//! A worker: brings one partition of one generation from any state to following the log.
//!
//! W1  A document is written only as the fold of a prefix of its stream (laws D1 and D2 of [`crate::fold`]); a gap is
//!     filled from the store, never folded over.
//! W2  A checkpoint is written with, or after, everything it covers.
//! W3  A worker notes the end of the partition's log before it reads the store. So every event that the store does not
//!     show yet comes through the log after that end.
//! W4  A poison event parks its account. Later events of that account wait; all other accounts continue.
//! W5  A worker that follows the log checks from time to time that its checkpoint is still the one in the index. A
//!     write that an earlier worker, or this one, had given up on may arrive late and put an older checkpoint back.
//!     That one is valid too, but it may be long until a record moves it, and a rebuild waits for it: so the worker
//!     begins again.
//!
//! [`mod@begin`] decides from checkpoint and log where to start: [`mod@replay`] fills an empty generation from the
//! store, [`synchronise`] brings an existing one up to date when the log no longer continues from the checkpoint, and
//! [`follow`] follows the log. The same three steps serve a first start, a rebuild, an index that was restored from a
//! backup, and a log that lost records. [`reconcile`] finds what a worker that follows the log cannot notice.

mod batches;
mod begin;
mod checkpointing;
mod follow;
mod lag;
mod project;
mod reconcile;
mod repair;
mod replay;
mod synchronise;
mod write;

use shared::backends::Backends;
use shared::clock::Clock;
use shared::coordinate::{Epoch, Offset, Version};
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{ApplyError, BalanceIndex, Checkpoint, Generation, Phase, Projected};
use shared::log::{Extent, Incarnation, PartitionLog, ReadError};
use shared::partition::{Partition, SlotRange};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use lag::{Lag, Lags};
pub(crate) use reconcile::keep_reconciling;

use crate::right_of_way::RightOfWay;
use crate::roster::Roster;
use crate::visibility::Visibility;
use begin::{Begin, begin};

/// Why a worker stopped before it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// Another worker with a higher epoch owns the partition.
    #[error("the partition belongs to {current}")]
    Fenced {
        /// The epoch of the owner.
        current: Epoch,
    },
    /// The generation was discarded.
    #[error("generation {0} is gone")]
    Gone(Generation),
    /// The log holds events that the store does not have: the store was set back, and an operator has to decide.
    #[error("the log holds {account} up to {log}, the store only up to {store}")]
    StoreBehind {
        /// The account.
        account: AccountId,
        /// What the log holds.
        log: Version,
        /// What the store holds.
        store: Version,
    },
    /// A backend failed for too long to wait any longer.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// One partition of one generation, owned under one epoch.
#[derive(Clone)]
pub(crate) struct Worker<B> {
    pub(crate) backends: B,
    pub(crate) generation: Generation,
    pub(crate) partition: Partition,
    pub(crate) slots: SlotRange,
    pub(crate) epoch: Epoch,
    pub(crate) clock: Clock,
    pub(crate) visibility: Visibility,
    pub(crate) roster: Roster,
    pub(crate) right_of_way: RightOfWay,
    pub(crate) lag: Lag,
}

impl<B: Backends> Worker<B> {
    /// Works until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        while !shutdown.is_cancelled() {
            // Law W3: the end is noted before anything is read from the store.
            let extent = self.backends.log().extent(self.partition).await?;
            let noted = self.backends.index().checkpoint(self.generation, self.partition).await?;
            if let Some(owner) = noted.as_ref().filter(|noted| noted.epoch > self.epoch) {
                return Err(WorkerError::Fenced { current: owner.epoch });
            }
            self.lag.begins(noted.as_ref(), &extent);
            let followed = match begin(noted, &extent) {
                Begin::Follow(checkpoint) => self.follow(checkpoint, &shutdown).await,
                Begin::Replay(plan) => self.replay(plan, &shutdown).await,
                Begin::Synchronise { replayed } => self.synchronise(&extent, replayed).await,
            };
            match followed {
                Ok(()) => {}
                Err(Stopped::Moved(extent)) => {
                    warn!(generation = %self.generation, partition = %self.partition, incarnation = %extent.incarnation,
                        last = %extent.last, "the log does not continue from the checkpoint, synchronising");
                }
                Err(Stopped::Overwritten) => {
                    warn!(generation = %self.generation, partition = %self.partition, epoch = %self.epoch,
                        "a late write has put another checkpoint in place, beginning again");
                }
                Err(Stopped::Failed(failure)) => return Err(failure),
            }
        }
        info!(generation = %self.generation, partition = %self.partition, "worker stops");
        Ok(())
    }

    const fn checkpoint(&self, incarnation: Incarnation, offset: Offset, phase: Phase) -> Checkpoint {
        Checkpoint { partition: self.partition, epoch: self.epoch, incarnation, offset, phase }
    }

    /// Writes a checkpoint alone: the partition has a new owner, or a new phase.
    async fn note(&self, checkpoint: Checkpoint) -> Result<(), WorkerError> {
        self.write(&mut Projected { checkpoint: Some(checkpoint), ..Projected::default() }).await?;
        Ok(())
    }
}

/// Why a step ended early.
#[derive(Debug)]
enum Stopped {
    /// The log has moved: begin again.
    Moved(Extent),
    /// The index holds another checkpoint than the one written last: begin again.
    Overwritten,
    /// The worker cannot go on.
    Failed(WorkerError),
}

impl<E: Into<WorkerError>> From<E> for Stopped {
    fn from(failure: E) -> Self {
        Self::Failed(failure.into())
    }
}

fn stopped_reading(error: ReadError) -> Stopped {
    match error {
        ReadError::Moved(extent) => Stopped::Moved(extent),
        ReadError::Backend(failure) => Stopped::Failed(failure.into()),
    }
}

/// What a refusal by the index means to a worker; a sealed generation and a refused document are handled earlier.
fn refused(error: ApplyError) -> WorkerError {
    match error {
        ApplyError::Fenced { current } => WorkerError::Fenced { current },
        ApplyError::Gone(generation) => WorkerError::Gone(generation),
        ApplyError::Backend(failure) => failure.into(),
        ApplyError::Sealed(_) | ApplyError::Refused { .. } => BackendError::not_done("apply", error).into(),
    }
}
