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
//! seen it beyond its entry. If a later event cannot be folded, the account is parked there instead, by the write that
//! brings its document. An entry at or below the version of the document no longer counts: once all documents are
//! written, such entries are removed, also those that an earlier attempt has left behind. The worker of the generation
//! passes over the events of an account while its entry counts, and they do not come again from the log. So once the
//! entry is gone, the account is folded once more: whatever was passed over is in the store by then.
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
use tracing::{info, warn};

use super::job::Job;
use crate::fold::Folding;
use crate::pages::{IndexVersions, Pair, Pairs};
use crate::parking::entries;
use crate::refill::{load_foldings, refill};

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
        unpark_passed(backends, generation).await?;
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
    let entries: Vec<Parked> = loaded.into_iter().filter_map(|loaded| loaded.parked).collect();
    Ok(write(index, generation, foldings, &entries).await?)
}

/// Writes what was folded. An account of these entries that has come to another event that cannot be folded is parked
/// there; the index keeps an entry that still counts.
async fn write<I: BalanceIndex>(
    index: &I,
    generation: Generation,
    foldings: BTreeMap<AccountId, Folding>,
    entries: &[Parked],
) -> Result<(), ApplyError> {
    let parked = entries.iter().filter_map(|entry| foldings.get(&entry.account)?.to_parked(entry.since)).collect();
    let balances = foldings.into_values().filter_map(Folding::into_changed).collect();
    index.apply(generation, &Projected { balances, parked, checkpoint: None }).await.map(|_| ())
}

/// Removes the entries that documents have passed.
async fn unpark_passed<B: Backends>(backends: &B, generation: Generation) -> Result<(), SwitchError> {
    let (index, mut after) = (backends.index(), None);
    loop {
        let page = entries(index, generation, after, ACCOUNTS_AT_ONCE).await?;
        let is_last = page.len() < ACCOUNTS_AT_ONCE;
        after = page.last().map(|entry| entry.parked.account);
        let passed = page.into_iter().filter(|entry| entry.is_passed);
        let passed: Vec<Parked> = passed.map(|entry| entry.parked).collect();
        if !passed.is_empty() {
            unpark(backends, generation, &passed).await?;
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Removes these entries and folds their accounts once more. If a worker replaces one of them at the same time, the new
/// one may go as well, and is then written again.
async fn unpark<B: Backends>(backends: &B, generation: Generation, entries: &[Parked]) -> Result<(), SwitchError> {
    let accounts: Vec<AccountId> = entries.iter().map(|entry| entry.account).collect();
    backends.index().unpark(generation, &accounts).await?;
    // No reader has seen what may be missing now, so the switch does not depend on it. If this fails, an account's next
    // event or a comparison of heads finds it.
    if let Err(failure) = catch_up(backends, generation, &accounts, entries).await {
        warn!(%generation, %failure, "what came while accounts were parked is not folded yet");
    }
    Ok(())
}

/// Writes what the store now holds of accounts whose entries were removed.
async fn catch_up<B: Backends>(
    backends: &B,
    generation: Generation,
    accounts: &[AccountId],
    entries: &[Parked],
) -> Result<(), SwitchError> {
    let mut foldings = load_foldings(backends.index(), generation, accounts).await?;
    refill(backends.store(), &mut foldings).await?;
    Ok(write(backends.index(), generation, foldings, entries).await?)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::clock::Timestamp;
    use shared::coordinate::Version;
    use shared::event::codec::encode;
    use shared::event::{AccountEvent, EncodedEvents, NewEvent, Personal};
    use shared::id::EventId;
    use shared::index::Balance;
    use shared::owner::Owner;
    use uuid::Uuid;

    use super::super::job::{JobId, Purpose};
    use super::*;
    use crate::testing::{append, document, embedded};

    fn account(number: usize) -> AccountId {
        AccountId::from_bytes((number as u128).to_be_bytes())
    }

    fn entry(number: usize, at: u64) -> Parked {
        let reason = "unknown to an older release".to_owned();
        Parked { account: account(number), at: Version::new(at), reason, since: Timestamp::EPOCH }
    }

    fn renamed() -> EncodedEvents {
        let event = AccountEvent::OwnerRenamed { personal: Personal { owner: Owner::new("Maria").unwrap() } };
        encode(&[NewEvent { id: EventId::from_number(1), time: Timestamp::EPOCH, event }])
    }

    /// Goal: a switch that dies between writing documents and removing their entries leaves none once it is repeated,
    /// although the documents are no longer behind.
    #[tokio::test]
    async fn a_repeated_switch_removes_the_entries_that_documents_have_passed() {
        const ACCOUNTS: usize = ACCOUNTS_AT_ONCE + 1;
        let partitions = PartitionMap::new(1).unwrap();
        let (backends, _folder) = embedded(partitions).await;
        let index = &backends.index;
        let [old, new] = [index.create().await.unwrap(), index.create().await.unwrap()];
        index.promote(old, None).await.unwrap();
        let counts = entry(ACCOUNTS, 3);
        let mut entries: Vec<Parked> = (0..ACCOUNTS).map(|number| entry(number, 2)).collect();
        entries.push(counts.clone());
        let balances: Vec<Balance> = (0..=ACCOUNTS).map(|number| document(account(number), 2)).collect();
        for (generation, parked) in [(old, Vec::new()), (new, entries)] {
            let projected = Projected { balances: balances.clone(), parked, checkpoint: None };
            index.apply(generation, &projected).await.unwrap();
        }

        let job = Job::new(JobId(Uuid::nil()), Purpose::Rollback, Some(old), Timestamp::EPOCH);
        switch(&backends, partitions, &job, new).await.unwrap();
        assert_eq!(index.generations().await.unwrap().active, Some(new));
        assert_eq!(index.parked(new, SlotRange::ALL, None, ACCOUNTS).await.unwrap(), [counts]);
    }

    /// Goal: what a customer does during a rollback shows without waiting for what he does next.
    #[tokio::test]
    async fn what_a_worker_passed_over_while_an_account_was_brought_forward_is_folded_before_the_switch() {
        let (backends, _folder) = embedded(PartitionMap::new(1).unwrap()).await;
        let (store, index) = (&backends.store, &backends.index);
        let generation = index.create().await.unwrap();
        let accounts = [account(1), account(2)];
        for account in accounts {
            for version in 0..2 {
                append(store, account, version, renamed()).await;
            }
        }
        let balances = accounts.map(|account| document(account, 1)).into();
        let projected = Projected { balances, parked: vec![entry(1, 2), entry(2, 2)], checkpoint: None };
        index.apply(generation, &projected).await.unwrap();

        let sealed = accounts.map(|account| Pair { account, wanted: Version::new(2), found: Version::new(1) });
        fill(&backends, generation, &sealed).await.unwrap();
        // A worker that has loaded the accounts before that passes over these.
        append(store, accounts[0], 2, renamed()).await;
        append(store, accounts[1], 2, EncodedEvents { count: 1, json: Bytes::from_static(b"[{}]") }).await;
        unpark_passed(&backends, generation).await.unwrap();
        let loaded = index.load(generation, &accounts).await.unwrap();
        let reached: Vec<(Version, Option<Version>)> =
            loaded.iter().map(|loaded| (loaded.version(), loaded.parked_at())).collect();
        assert_eq!(reached, [(Version::new(3), None), (Version::new(2), Some(Version::new(3)))]);
    }
}
