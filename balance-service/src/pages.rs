//! Walking two sorted lists of accounts and versions side by side, page by page.
//!
//! Store and index both list accounts by (slot, account), so comparing a million of them takes two pages in memory and
//! no set of ids.

use std::cmp::Ordering;
use std::collections::VecDeque;

use shared::coordinate::Version;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Generation};
use shared::partition::{Slot, SlotRange};
use shared::store::EventStore;

use crate::right_of_way::RightOfWay;

/// How many accounts of each side are in memory.
pub(crate) const PAGE_ACCOUNTS: usize = 4_096;

/// A list of accounts with versions, sorted by (slot, account).
pub(crate) trait VersionPages: Send {
    /// The accounts after this one, at most [`PAGE_ACCOUNTS`]; fewer only at the end.
    fn page(
        &self,
        after: Option<AccountId>,
    ) -> impl Future<Output = Result<Vec<(AccountId, Version)>, BackendError>> + Send;
}

/// The heads of the store's streams.
pub(crate) struct StoreHeads<'a, S> {
    store: &'a S,
    slots: SlotRange,
}

impl<'a, S> StoreHeads<'a, S> {
    pub(crate) const fn new(store: &'a S, slots: SlotRange) -> Self {
        Self { store, slots }
    }
}

impl<S: EventStore> VersionPages for StoreHeads<'_, S> {
    async fn page(&self, after: Option<AccountId>) -> Result<Vec<(AccountId, Version)>, BackendError> {
        self.store.heads(self.slots, after, PAGE_ACCOUNTS).await
    }
}

/// The documents of a generation.
pub(crate) struct IndexVersions<'a, I> {
    index: &'a I,
    generation: Generation,
    slots: SlotRange,
}

impl<'a, I> IndexVersions<'a, I> {
    pub(crate) const fn new(index: &'a I, generation: Generation, slots: SlotRange) -> Self {
        Self { index, generation, slots }
    }
}

impl<I: BalanceIndex> VersionPages for IndexVersions<'_, I> {
    async fn page(&self, after: Option<AccountId>) -> Result<Vec<(AccountId, Version)>, BackendError> {
        self.index.versions(self.generation, self.slots, after, PAGE_ACCOUNTS).await
    }
}

/// A list whose pages give way to workers that are late.
pub(crate) struct GivingWay<'a, P> {
    pages: P,
    right_of_way: &'a RightOfWay,
}

impl<'a, P> GivingWay<'a, P> {
    pub(crate) const fn new(pages: P, right_of_way: &'a RightOfWay) -> Self {
        Self { pages, right_of_way }
    }
}

impl<P: VersionPages + Sync> VersionPages for GivingWay<'_, P> {
    async fn page(&self, after: Option<AccountId>) -> Result<Vec<(AccountId, Version)>, BackendError> {
        let _permit = self.right_of_way.page().await;
        self.pages.page(after).await
    }
}

/// An account with its version on each side; [`Version::EMPTY`] where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) account: AccountId,
    /// By the side that has the truth: the store, or the generation that readers have seen.
    pub(crate) wanted: Version,
    /// By the side that is compared with it.
    pub(crate) found: Version,
}

/// The union of two lists, in order: what is wanted, and what is found.
pub(crate) struct Pairs<W, F> {
    wanted: ListWalk<W>,
    found: ListWalk<F>,
}

impl<W: VersionPages, F: VersionPages> Pairs<W, F> {
    pub(crate) const fn new(wanted: W, found: F) -> Self {
        Self::after(wanted, found, None)
    }

    /// The same, starting after an account.
    pub(crate) const fn after(wanted: W, found: F, after: Option<AccountId>) -> Self {
        Self { wanted: ListWalk::after(wanted, after), found: ListWalk::after(found, after) }
    }

    /// The next account that is on either side.
    pub(crate) async fn next(&mut self) -> Result<Option<Pair>, BackendError> {
        let wanted = self.wanted.peek().await?;
        let found = self.found.peek().await?;
        let Some(account) = [wanted, found].into_iter().flatten().map(|(account, _)| account).min_by_key(order) else {
            return Ok(None);
        };
        Ok(Some(Pair { account, wanted: self.wanted.take(account), found: self.found.take(account) }))
    }

    /// The next accounts whose version is found below the one wanted, at most this many; none only at the end. `ahead`
    /// gets those in between whose version is found above it.
    pub(crate) async fn next_behind(
        &mut self,
        at_most: usize,
        mut ahead: impl FnMut(Pair) + Send,
    ) -> Result<Vec<Pair>, BackendError> {
        let mut behind = Vec::new();
        while behind.len() < at_most {
            let Some(pair) = self.next().await? else { break };
            match pair.found.cmp(&pair.wanted) {
                Ordering::Less => behind.push(pair),
                Ordering::Equal => {}
                Ordering::Greater => ahead(pair),
            }
        }
        Ok(behind)
    }
}

fn order(account: &AccountId) -> (Slot, AccountId) {
    (Slot::of(account), *account)
}

/// A walk through one of the lists.
struct ListWalk<P> {
    pages: P,
    buffer: VecDeque<(AccountId, Version)>,
    last: Option<AccountId>,
    done: bool,
}

impl<P: VersionPages> ListWalk<P> {
    const fn after(pages: P, last: Option<AccountId>) -> Self {
        Self { pages, buffer: VecDeque::new(), last, done: false }
    }

    async fn peek(&mut self) -> Result<Option<(AccountId, Version)>, BackendError> {
        if self.buffer.is_empty() && !self.done {
            let page = self.pages.page(self.last).await?;
            self.done = page.len() < PAGE_ACCOUNTS;
            self.last = page.last().map(|(account, _)| *account).or(self.last);
            self.buffer = page.into();
        }
        Ok(self.buffer.front().copied())
    }

    fn take(&mut self, account: AccountId) -> Version {
        match self.buffer.front() {
            Some((front, version)) if *front == account => {
                let version = *version;
                self.buffer.pop_front();
                version
            }
            Some(_) | None => Version::EMPTY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::right_of_way::GIVE_WAY_MAX;
    use std::collections::BTreeMap;
    use tokio::time::Instant;

    struct Listed(BTreeMap<(Slot, AccountId), Version>);

    impl VersionPages for Listed {
        async fn page(&self, after: Option<AccountId>) -> Result<Vec<(AccountId, Version)>, BackendError> {
            let rest = self.0.iter().filter(|(key, _)| after.is_none_or(|after| **key > order(&after)));
            Ok(rest.take(PAGE_ACCOUNTS).map(|((_, account), version)| (*account, *version)).collect())
        }
    }

    fn listed(numbers: impl Iterator<Item = u32>) -> Listed {
        let entry = |number: u32| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            (order(&AccountId::from_bytes(bytes)), Version::new(u64::from(number)))
        };
        Listed(numbers.map(entry).collect())
    }

    #[tokio::test]
    async fn every_account_of_either_side_comes_once_over_many_pages() {
        let pages = u32::try_from(PAGE_ACCOUNTS).unwrap();
        let (wanted, found) = (listed((1..3 * pages).step_by(2)), listed((1..3 * pages).step_by(3)));
        let expected: BTreeMap<_, _> = wanted.0.iter().chain(&found.0).map(|(key, version)| (*key, *version)).collect();
        let (in_wanted, in_found) = (wanted.0.clone(), found.0.clone());
        let mut pairs = Pairs::new(wanted, found);
        let mut seen = Vec::new();
        while let Some(pair) = pairs.next().await.unwrap() {
            let key = order(&pair.account);
            assert_eq!(pair.wanted, in_wanted.get(&key).copied().unwrap_or_default());
            assert_eq!(pair.found, in_found.get(&key).copied().unwrap_or_default());
            seen.push(key);
        }
        assert!(seen.is_sorted_by(|a, b| a < b));
        assert_eq!(seen.len(), expected.len());
    }

    #[tokio::test]
    async fn what_is_behind_comes_in_chunks_and_what_is_ahead_is_told_of_in_between() {
        let (mut pairs, mut chunks, mut ahead) = (Pairs::new(listed(1..7), listed(4..10)), Vec::new(), 0);
        loop {
            let behind = pairs.next_behind(2, |_| ahead += 1).await.unwrap();
            assert!(behind.iter().all(|pair| pair.found < pair.wanted), "{behind:?}");
            chunks.push(behind.len());
            if behind.is_empty() {
                break;
            }
        }
        assert_eq!((chunks, ahead), (vec![2, 1, 0], 3));
    }

    #[tokio::test(start_paused = true)]
    async fn every_page_of_a_list_that_gives_way_waits_while_a_worker_is_late() {
        const PAGES: u32 = 3;
        let last = (PAGES - 1) * u32::try_from(PAGE_ACCOUNTS).unwrap() + 1;
        let right_of_way = RightOfWay::default();
        let giving_way = |list| GivingWay::new(list, &right_of_way);
        let (began, late) = (Instant::now(), right_of_way.keep_claimed());
        let mut pairs = Pairs::new(giving_way(listed(std::iter::empty())), giving_way(listed(1..=last)));
        let reading = async {
            while pairs.next().await.unwrap().is_some() {}
            began.elapsed()
        };
        tokio::select! {
            biased;
            () = late => {}
            // The other list is empty, which takes a page to find out.
            took = reading => assert_eq!(took, GIVE_WAY_MAX * (1 + PAGES)),
        }
    }
}
