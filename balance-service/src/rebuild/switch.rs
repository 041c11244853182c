//! Switching queries from one generation to another without showing an older view.
//!
//! Seal the old generation, so that its documents no longer change. Bring every document of the new one to at least the
//! version of the old one; the store has all the events. Promote. Lift the seal, so that the old one is fed again for a
//! rollback.
//!
//! Every step can be repeated, so a switch that died half-way is simply repeated. What would fail in every repetition
//! ends the job instead, since the old generation stands still for as long as it is sealed.
//!
//! An account that is parked in the new generation is folded on all the same. An older release may have parked it at an
//! event that this one can fold, or a retry may have unparked it in the old generation alone, and then readers have
//! seen it beyond its entry. An entry at or below the version of the document no longer counts, so as soon as the
//! document is written the entry is removed. If a later event cannot be folded, the account is parked there instead. A
//! switch that dies before that leaves an entry which counts for nothing, or an account whose next event, or a
//! comparison of heads, parks it.
//!
//! The promotion rests on the documents as this sealing left them (law X5): if another conductor of the job seals the
//! old generation meanwhile, it is refused, and the switch begins again.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream;
use shared::backends::Backends;
use shared::error::{BackendError, Retry};
use shared::id::AccountId;
use shared::index::{ApplyError, BalanceIndex, Generation, Loaded, Parked, Projected, PromoteError, Sealing};
use shared::partition::{Partition, PartitionMap, SlotRange};
use tracing::info;

use super::job::Job;
use crate::fold::Folding;
use crate::pages::{IndexVersions, Pair, Pairs};
use crate::refill::refill;

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
        let promoted =
            bring_and_promote(backends, partitions, generation, sealed).await.map_err(SwitchError::unless_repeatable);
        if let (Err(SwitchError::Refused(_)), Some(old)) = (&promoted, old) {
            index.unseal(old, job.seal()).await?;
        }
        promoted?;
    }
    if let Some(old) = old {
        index.unseal(old, job.seal()).await?;
    }
    Ok(())
}

/// Brings the new generation forward, if there is an old one, and promotes it.
async fn bring_and_promote<B: Backends>(
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

/// Brings documents to at least their sealed versions, whether their accounts are parked or not.
async fn fill<B: Backends>(backends: &B, generation: Generation, lagging: &[Pair]) -> Result<(), SwitchError> {
    let index = backends.index();
    let accounts: Vec<AccountId> = lagging.iter().map(|pair| pair.account).collect();
    let loaded = index.load(generation, &accounts).await?;
    let to_folding =
        |(account, loaded): (&AccountId, &Loaded)| (*account, Folding::new(*account, loaded.balance.clone()));
    let mut foldings: BTreeMap<AccountId, Folding> = accounts.iter().zip(&loaded).map(to_folding).collect();
    refill(backends.store(), &mut foldings).await?;
    for pair in lagging {
        let Some(folding) = foldings.get(&pair.account) else { continue };
        reaches(folding, pair)?;
    }
    let has_passed = |parked: &Parked| foldings.get(&parked.account).is_some_and(|f| parked.at <= f.version());
    let passed: Vec<Parked> = loaded.into_iter().filter_map(|loaded| loaded.parked).filter(has_passed).collect();
    let again = passed.iter().filter_map(|parked| foldings.get(&parked.account)?.to_parked(parked.since)).collect();
    let balances = foldings.into_values().filter_map(Folding::into_changed).collect();
    index.apply(generation, &Projected { balances, ..Projected::default() }).await?;
    if !passed.is_empty() {
        let accounts: Vec<AccountId> = passed.into_iter().map(|parked| parked.account).collect();
        index.unpark(generation, &accounts).await?;
        index.apply(generation, &Projected { parked: again, ..Projected::default() }).await?;
    }
    Ok(())
}

/// Refuses the switch if everything that can be folded does not reach the sealed version.
fn reaches(folding: &Folding, Pair { account, wanted: sealed, .. }: &Pair) -> Result<(), SwitchError> {
    let reached = folding.version();
    if reached >= *sealed {
        return Ok(());
    }
    let why = match folding.poison() {
        Some((at, reason)) => format!("it is parked there, since event {at} cannot be folded: {reason}"),
        None => "the store was set back, or the document was changed: see bank verify".to_owned(),
    };
    let reason = format!("account {account} stands at {reached} where readers have seen {sealed}; {why}");
    Err(SwitchError::Refused(reason))
}
