//! Writing a batch to the index, for as long as that takes, and parking accounts whose documents it refuses.

use std::time::Duration;

use metrics::{counter, histogram};
use shared::backends::Backends;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{ApplyError, BalanceIndex, Parked, Projected};
use shared::retry::Backoff;
use shared::telemetry::metric::{ACCOUNTS_PARKED, INDEX_APPLY_SECONDS, INDEX_STALE, INDEX_WRITES};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Worker, WorkerError, refused};

/// The first pause before a batch that meets a seal is sent again; each one after it is twice as long.
const SEALED_PAUSE_MIN: Duration = Duration::from_millis(10);

/// The longest of these pauses. A seal lasts as long as a switch, which the refused batches of all workers slow down;
/// once it is lifted, what it held up is that much later at most.
const SEALED_PAUSE_MAX: Duration = Duration::from_millis(200);

impl<B: Backends> Worker<B> {
    /// Writes a batch, waiting out transient failures. Writing the same again is harmless, so a write with an unknown
    /// outcome is repeated. Returns the accounts whose documents the index refused; these documents are removed from
    /// the batch.
    pub(super) async fn write(&self, projected: &mut Projected) -> Result<Vec<AccountId>, WorkerError> {
        let (mut backoff, mut sealed_pause) = (Backoff::default(), SEALED_PAUSE_MIN);
        let mut refused_accounts = Vec::new();
        for parked in &projected.parked {
            warn!(generation = %self.generation, partition = %self.partition, account = %parked.account,
                at = %parked.at, reason = parked.reason, "account parked");
        }
        loop {
            let started = Instant::now();
            match self.backends.index().apply(self.generation, projected).await {
                Ok(applied) => {
                    histogram!(INDEX_APPLY_SECONDS.name).record(started.elapsed());
                    counter!(INDEX_WRITES.name).increment(applied.written as u64);
                    counter!(INDEX_STALE.name).increment(applied.stale as u64);
                    counter!(ACCOUNTS_PARKED.name, "partition" => self.partition.to_string())
                        .increment(projected.parked.len() as u64);
                    self.visibility.seen(projected.balances.iter().map(|balance| balance.id));
                    return Ok(refused_accounts);
                }
                Err(ApplyError::Sealed(_)) => {
                    tokio::time::sleep(sealed_pause).await;
                    sealed_pause = SEALED_PAUSE_MAX.min(sealed_pause * 2);
                }
                Err(ApplyError::Refused { account, reason }) => {
                    match self.park_refused(projected, account, &reason).await {
                        Ok(()) => refused_accounts.push(account),
                        Err(failure) => backoff.wait(failure).await?,
                    }
                }
                Err(ApplyError::Backend(failure)) => {
                    debug!(partition = %self.partition, %failure, "index write failed, trying again");
                    backoff.wait(failure).await?;
                }
                Err(error @ (ApplyError::Fenced { .. } | ApplyError::Gone(_))) => return Err(refused(error)),
            }
        }
    }

    /// A document that the index will never accept is as poisonous as an event that cannot be folded. It may cover many
    /// events: its account is parked at the first of them that the index does not show.
    async fn park_refused(
        &self,
        projected: &mut Projected,
        account: AccountId,
        reason: &str,
    ) -> Result<(), BackendError> {
        let loaded = self.backends.index().load(self.generation, &[account]).await?.pop().unwrap_or_default();
        let at = loaded.version().next();
        warn!(generation = %self.generation, partition = %self.partition, %account, %at, reason, "account parked");
        let since = self.clock.now();
        for balance in projected.balances.extract_if(.., |balance| balance.id == account) {
            // Another writer may have written this version meanwhile.
            if at <= balance.version {
                // A later event may be poison too; this one comes first.
                projected.parked.retain(|parked| parked.account != account);
                projected.parked.push(Parked { account, at, reason: reason.to_owned(), since });
            }
        }
        Ok(())
    }
}
