//! From a batch of records to one write: group by account, fold, fill gaps from the store, write.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use lru::LruCache;
use metrics::counter;
use shared::backends::Backends;
use shared::event::Recorded;
use shared::id::AccountId;
use shared::index::Balance;
use shared::log::Record;
use shared::telemetry::metric::{FOLDED_EVENTS, GAPS_REFILLED};

use super::{Worker, WorkerError};
use crate::fold::{Folding, Taken, projected};
use crate::refill::{load_foldings, refill};
use crate::stint::Stint;

/// How many balances a worker keeps in memory, so that a busy account is not read before each write. A balance takes
/// about 300 bytes.
const BALANCES_CACHED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// The last balances a worker wrote. Nobody else's writes make them wrong: any other writer of the account writes folds
/// of the same stream, and the index keeps the highest version. Only a repair makes the worker forget them.
pub(super) struct Cache(LruCache<AccountId, Balance>);

impl Cache {
    pub(super) fn new() -> Self {
        Self(LruCache::new(BALANCES_CACHED))
    }

    /// Every account is read from the index before it is written next.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}

impl<B: Backends> Worker<B> {
    /// Projects a batch. Its checkpoint is noted later, together with that of other batches (law W2).
    pub(super) async fn project(&self, cache: &mut Cache, records: Vec<Record>) -> Result<(), WorkerError> {
        let groups = by_account(records);
        let mut foldings = self.load(cache, groups.keys().copied()).await?;
        let before = events_folded(&foldings);
        let gaps = take_all(&mut foldings, &groups).await;
        if !gaps.is_empty() {
            self.fill_gaps(&mut foldings, &groups, gaps).await?;
        }
        counter!(FOLDED_EVENTS.name, "partition" => self.partition.to_string())
            .increment(events_folded(&foldings) - before);
        let stuck: Vec<AccountId> =
            foldings.iter().filter(|(_, f)| f.is_stuck()).map(|(account, _)| *account).collect();
        let mut projected = projected(foldings.into_values(), self.clock.now());
        let refused = self.write(&mut projected).await?;
        for balance in projected.balances {
            cache.0.put(balance.id, balance);
        }
        // A parked account must be read each time: a retry in any process may unpark it.
        for account in stuck.into_iter().chain(refused) {
            cache.0.pop(&account);
        }
        Ok(())
    }

    /// What the records of these accounts are folded onto. One whose first event is in this batch is looked up too: its
    /// records may come once more, and it may be parked.
    async fn load(
        &self,
        cache: &mut Cache,
        accounts: impl Iterator<Item = AccountId>,
    ) -> Result<BTreeMap<AccountId, Folding>, WorkerError> {
        let mut foldings = BTreeMap::new();
        let mut missing = Vec::new();
        for account in accounts {
            match cache.0.get(&account) {
                Some(balance) => _ = foldings.insert(account, Folding::new(account, Some(balance.clone()))),
                None => missing.push(account),
            }
        }
        if !missing.is_empty() {
            foldings.extend(load_foldings(self.backends.index(), self.generation, &missing).await?);
        }
        Ok(foldings)
    }

    async fn fill_gaps(
        &self,
        foldings: &mut BTreeMap<AccountId, Folding>,
        groups: &BTreeMap<AccountId, Vec<Recorded>>,
        gaps: BTreeSet<AccountId>,
    ) -> Result<(), WorkerError> {
        counter!(GAPS_REFILLED.name, "partition" => self.partition.to_string()).increment(gaps.len() as u64);
        let mut behind: BTreeMap<AccountId, Folding> =
            gaps.iter().filter_map(|account| foldings.remove_entry(account)).collect();
        refill(self.backends.store(), &mut behind).await?;
        for (account, folding) in &behind {
            let log = groups.get(account).and_then(|records| records.last()).map(Recorded::last_version);
            let store = folding.version();
            if let Some(log) = log.filter(|log| *log > store && !folding.is_stuck()) {
                return Err(WorkerError::StoreBehind { account: *account, log, store });
            }
        }
        foldings.append(&mut behind);
        Ok(())
    }
}

fn by_account(records: Vec<Record>) -> BTreeMap<AccountId, Vec<Recorded>> {
    let mut groups: BTreeMap<AccountId, Vec<Recorded>> = BTreeMap::new();
    for record in records {
        groups.entry(record.recorded.stream).or_default().push(record.recorded);
    }
    groups
}

/// Folds every group as far as possible and returns the accounts with a gap.
async fn take_all(
    foldings: &mut BTreeMap<AccountId, Folding>,
    groups: &BTreeMap<AccountId, Vec<Recorded>>,
) -> BTreeSet<AccountId> {
    let (mut gaps, mut stint) = (BTreeSet::new(), Stint::new());
    for (account, records) in groups {
        let folding = foldings.entry(*account).or_insert_with(|| Folding::new(*account, None));
        for recorded in records {
            stint.next().await;
            if folding.take(recorded) == Taken::Gap {
                gaps.insert(*account);
                break;
            }
        }
    }
    gaps
}

fn events_folded(foldings: &BTreeMap<AccountId, Folding>) -> u64 {
    foldings.values().map(|folding| folding.version().get()).sum()
}
