use serde::Serialize;
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::id::AccountId;
use shared::index::{AccountStatus, Balance, Generation, Parked};
use shared::money::{Currency, Money};
use shared::owner::Owner;
use utoipa::ToSchema;

use crate::rebuild::{JobId, JobState, PartitionProgress, Purpose, RebuildStatus};
use crate::verify::Verification;

/// The balance of one account.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Balance)]
pub struct BalanceView {
    /// Account id.
    #[schema(value_type = Uuid)]
    pub id: AccountId,
    /// Name of the owner.
    #[schema(value_type = String, example = "Paulo")]
    pub owner: Owner,
    /// Balance in minor units.
    #[schema(value_type = i64, example = 12_050)]
    pub balance: Money,
    /// `OPEN` or `CLOSED`.
    #[schema(value_type = String, example = "OPEN")]
    pub status: AccountStatus,
    /// Number of events folded into the balance.
    #[schema(value_type = u64, example = 3)]
    pub version: Version,
    /// ISO 4217 code of the currency.
    #[schema(value_type = String, example = "EUR")]
    pub currency: Currency,
    /// When the account was opened.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// Time of its last event.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<Balance> for BalanceView {
    fn from(document: Balance) -> Self {
        let Balance { id, event_id: _, owner, status, currency, balance, version, opened_at, updated_at } = document;
        Self { id, owner, balance, status, version, currency, opened_at, updated_at }
    }
}

/// A parked account: its next event cannot be folded, or the index refuses its document.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Parked)]
pub struct ParkedView {
    /// Account id.
    #[schema(value_type = Uuid)]
    pub id: AccountId,
    /// First version missing from its balance.
    #[schema(value_type = u64)]
    pub at: Version,
    /// Why the event cannot be folded, or the document is refused.
    pub reason: String,
    /// When it was parked.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

impl From<Parked> for ParkedView {
    fn from(Parked { account, at, reason, since }: Parked) -> Self {
        Self { id: account, at, reason, since }
    }
}

/// A rebuild or rollback job and its progress.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Rebuild)]
pub struct RebuildView {
    /// Job id.
    #[schema(value_type = Uuid)]
    pub job: JobId,
    /// `rebuild`, `restore` (there was no projection) or `rollback`.
    #[schema(value_type = String, example = "rebuild")]
    pub purpose: Purpose,
    /// `replaying`, `catching_up`, `verifying`, `switching`, `done`, `failed` or `cancelled`.
    #[schema(value_type = String, example = "replaying")]
    pub state: JobState,
    /// The generation to switch to; null until it is created.
    #[schema(value_type = Option<u32>)]
    pub generation: Option<Generation>,
    /// The generation that was active when the job started.
    #[schema(value_type = Option<u32>)]
    pub previous: Option<Generation>,
    /// When the job was requested.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When the job ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Until when a rollback is possible.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub keep_previous_until: Option<Timestamp>,
    /// Progress of each partition; empty before the generation is created, and once the job has ended without a switch.
    pub partitions: Vec<PartitionProgress>,
    /// Events replayed per second since the job started; null before the first.
    pub events_per_second: Option<u64>,
    /// Seconds until the replay is done at this rate; null when unknown or done.
    pub eta_seconds: Option<u64>,
    /// Result of verifying the new generation: how many documents were compared, how many differ in which way, and the
    /// first findings.
    pub verification: Option<Verification>,
    /// Why the job failed.
    pub failure: Option<String>,
}

impl From<RebuildStatus> for RebuildView {
    fn from(RebuildStatus { job, partitions, events_per_second, eta_seconds }: RebuildStatus) -> Self {
        Self {
            job: job.id,
            purpose: job.purpose,
            state: job.state,
            generation: job.generation,
            previous: job.previous,
            started_at: job.started_at,
            finished_at: job.finished_at,
            keep_previous_until: job.keep_previous_until,
            partitions,
            events_per_second,
            eta_seconds,
            verification: job.verification,
            failure: job.failure,
        }
    }
}
