//! Switching queries from one generation to another without showing an older view.
//!
//! Seal the old generation, so that its documents no longer change. Bring every document of the new one to at least the
//! version of the old one; the store has all the events. Promote. Lift the seal, so that the old one is fed again for a
//! rollback.
//!
//! Every step can be repeated, so a switch that died half-way is simply repeated. What would fail in every repetition
//! ends the job instead, since the old generation stands still for as long as it is sealed.
//!
//! The promotion rests on the documents as this sealing left them (law X5): if another conductor of the job seals the
//! old generation meanwhile, it is refused, and the switch begins again.

use futures::StreamExt;
use futures::stream;
use shared::backends::Backends;
use shared::coordinate::Version;
use shared::error::{BackendError, Retry};
use shared::id::AccountId;
use shared::index::{ApplyError, BalanceIndex, Generation, Projected, PromoteError, Sealing};
use shared::partition::{Partition, PartitionMap, SlotRange};
use tracing::info;

use super::job::Job;
use crate::fold::Folding;
use crate::pages::{IndexVersions, Pair, Pairs};
use crate::worker::{load_foldings, refill};

/// How many partitions are brought forward at once.
const PARTITIONS_AT_ONCE: usize = 4;

/// How many accounts are brought forward in one write.
const ACCOUNTS_AT_ONCE: usize = 500;

/// Why queries were not switched.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwitchError {
    /// They cannot be switched, and the job is over.
    #[error("{0}")]
    Refused(String),
    /// The index refused a write.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A backend failed; the switch can be repeated.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl SwitchError {
    /// The same, but refused if a repetition would fail as well.
    fn unless_repeatable(self) -> Self {
        match self {
            Self::Backend(failure) | Self::Apply(ApplyError::Backend(failure)) if failure.retry == Retry::Never => {
                Self::Refused(failure.to_string())
            }
            Self::Apply(refused @ ApplyError::Refused { .. }) => Self::Refused(refused.to_string()),
            Self::Refused(_) | Self::Apply(_) | Self::Backend(_) => self,
        }
    }
}

/// Switches queries to `generation`.
pub(super) async fn switch<B: Backends>(
    backends: &B,
    partitions: PartitionMap,
    job: &Job,
    generation: Generation,
) -> Result<(), SwitchError> {
    let index = backends.index();
    let old = job.previous.filter(|old| *old != generation);
    if index.generations().await?.active != Some(generation) {
        let sealed = match old {
            Some(old) => Some((old, index.seal(old, job.seal()).await?)),
            None => None,
        };
        let turned = turn(backends, partitions, generation, sealed).await.map_err(SwitchError::unless_repeatable);
        if let (Err(SwitchError::Refused(_)), Some(old)) = (&turned, old) {
            index.unseal(old, job.seal()).await?;
        }
        turned?;
    }
    if let Some(old) = old {
        index.unseal(old, job.seal()).await?;
    }
    Ok(())
}

async fn turn<B: Backends>(
    backends: &B,
    partitions: PartitionMap,
    generation: Generation,
    sealed: Option<(Generation, Sealing)>,
) -> Result<(), SwitchError> {
    if let Some((old, _)) = sealed {
        let mut parts = stream::iter(partitions.all())
            .map(|partition| bring_forward(backends, partitions.slots(partition), partition, old, generation))
            .buffered(PARTITIONS_AT_ONCE);
        while let Some(brought) = parts.next().await {
            brought?;
        }
    }
    match backends.index().promote(generation, sealed).await {
        Ok(()) => Ok(()),
        // An earlier call that was not answered in time. Only this job's seal promotes its generation.
        Err(PromoteError::Moved(Some(active))) if active == generation => Ok(()),
        Err(PromoteError::Backend(failure)) => Err(failure.into()),
        Err(refused @ (PromoteError::Moved(_) | PromoteError::Gone(_))) => {
            Err(SwitchError::Refused(refused.to_string()))
        }
    }
}

/// Brings the documents of a slot range to at least their sealed versions.
async fn bring_forward<B: Backends>(
    backends: &B,
    slots: SlotRange,
    partition: Partition,
    old: Generation,
    new: Generation,
) -> Result<(), SwitchError> {
    let mut pairs =
        Pairs::new(IndexVersions::new(backends.index(), old, slots), IndexVersions::new(backends.index(), new, slots));
    let mut brought = 0;
    loop {
        let lagging = pairs.next_behind(ACCOUNTS_AT_ONCE, |_| {}).await?;
        if lagging.is_empty() {
            break;
        }
        brought += lagging.len();
        fill(backends, new, &lagging).await?;
    }
    if brought > 0 {
        info!(%partition, accounts = brought, "accounts brought forward before the switch");
    }
    Ok(())
}

async fn fill<B: Backends>(backends: &B, generation: Generation, lagging: &[Pair]) -> Result<(), SwitchError> {
    let accounts: Vec<AccountId> = lagging.iter().map(|pair| pair.account).collect();
    let mut foldings = load_foldings(backends.index(), generation, &accounts).await?;
    refill(backends.store(), &mut foldings).await?;
    for Pair { account, left: sealed, .. } in lagging {
        let reached = foldings.get(account).map_or(Version::EMPTY, Folding::version);
        if reached < *sealed {
            let reason = format!(
                "account {account} stands at {reached} where readers have seen {sealed}; the store was set back, the \
                 document was changed, or an event cannot be folded: see bank verify"
            );
            return Err(SwitchError::Refused(reason));
        }
    }
    let balances = foldings.into_values().filter_map(Folding::into_changed).collect();
    backends.index().apply(generation, &Projected { balances, ..Projected::default() }).await?;
    Ok(())
}
