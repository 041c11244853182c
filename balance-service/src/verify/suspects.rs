//! The second look: judges each account that looked wrong, on its own.

use std::collections::BTreeMap;

use shared::backends::Backends;
use shared::coordinate::Version;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{Balance, Loaded};

use super::compare::compare;
use super::report::{Fault, Finding, Verification};
use super::waiting::Waiting;
use super::walk::Comparison;
use crate::fold::Folding;
use crate::refill::refill_patiently;

/// How many accounts of a partition wait to be looked at again before the walk through its streams continues: a few
/// megabytes. In a partition without a worker, a check waits for its whole patience once per this many accounts.
pub const SUSPECTS_MAX: usize = 20_000;

/// How many accounts are looked at in one call.
const ACCOUNTS_AT_ONCE: usize = 250;

/// Accounts that look wrong, with the version that a right document must have reached.
pub(super) type DocumentSuspects = BTreeMap<AccountId, Version>;

/// A suspect that looks wrong, and the head that its stream had at the first look.
struct Wrong {
    head: Version,
    finding: Finding,
}

impl<B: Backends> Comparison<'_, B> {
    /// Looks at suspects repeatedly (law P2) and returns what stays wrong.
    pub(super) async fn judge(
        &self,
        mut suspects: DocumentSuspects,
        verification: &mut Verification,
    ) -> Result<Vec<Finding>, BackendError> {
        let mut waiting = Waiting::new(self.patience);
        loop {
            let wrong = self.look_at(suspects, verification).await?;
            waiting.found(wrong.iter().map(|wrong| &wrong.finding));
            if wrong.is_empty() || waiting.is_over() {
                verification.checked += wrong.len() as u64;
                return Ok(wrong.into_iter().map(|wrong| wrong.finding).collect());
            }
            suspects = wrong.into_iter().map(|wrong| (wrong.finding.account, wrong.head)).collect();
            waiting.pause().await;
        }
    }

    /// Looks at each suspect once, counts what is right, and returns what is not.
    async fn look_at(
        &self,
        suspects: DocumentSuspects,
        verification: &mut Verification,
    ) -> Result<Vec<Wrong>, BackendError> {
        let suspects: Vec<(AccountId, Version)> = suspects.into_iter().collect();
        let mut wrong = Vec::new();
        for chunk in suspects.chunks(ACCOUNTS_AT_ONCE) {
            // Most suspects are late: the worker that they wait for goes first.
            let _permit = self.right_of_way.page().await;
            let accounts: Vec<AccountId> = chunk.iter().map(|(account, _)| *account).collect();
            let loaded = self.load_patiently(&accounts).await?;
            let mut foldings = chunk.iter().zip(&loaded).filter_map(|suspect| self.to_fold(suspect)).collect();
            refill_patiently(self.backends.store(), &mut foldings).await?;
            verification.events += foldings.values().map(|folding| folding.version().get()).sum::<u64>();
            for ((account, head), loaded) in chunk.iter().zip(&loaded) {
                match judged(*account, *head, loaded, foldings.get(account)) {
                    Some(finding) => wrong.push(Wrong { head: *head, finding }),
                    None if loaded.parked_at().is_some() => verification.parked += 1,
                    None if loaded.balance.is_some() => verification.checked += 1,
                    None => {}
                }
            }
        }
        Ok(wrong)
    }

    /// What has to be folded to judge a document: its stream, up to its version. One that is behind is known to be so
    /// without that, and a late view is full of them. Only where nothing is in flight is it compared as well, since
    /// nobody may look again.
    fn to_fold(&self, ((account, head), loaded): (&(AccountId, Version), &Loaded)) -> Option<(AccountId, Folding)> {
        let is_compared = self.patience.is_zero() || loaded.version() >= loaded.reachable(*head);
        let document = loaded.balance.as_ref().filter(|_| is_compared)?;
        Some((*account, Folding::up_to(*account, document.version)))
    }
}

/// What is wrong with a document, given that its stream was at `head` once and its events fold to `folding`.
fn judged(account: AccountId, head: Version, loaded: &Loaded, folding: Option<&Folding>) -> Option<Finding> {
    let compared = loaded.balance.as_ref().zip(folding);
    compared
        .and_then(|(document, folding)| differing(account, document, folding))
        .or_else(|| late(account, head, loaded))
}

fn late(account: AccountId, head: Version, loaded: &Loaded) -> Option<Finding> {
    let (reached, head) = (loaded.version(), loaded.reachable(head));
    if reached >= head {
        return None;
    }
    let (fault, place) = match &loaded.balance {
        None => (Fault::Missing, "there is no document".to_owned()),
        Some(_) => (Fault::Behind, format!("the document is at {reached}")),
    };
    Some(Finding { account, fault, detail: format!("{place}, the store was at {head}"), version: reached })
}

fn differing(account: AccountId, document: &Balance, folding: &Folding) -> Option<Finding> {
    let reached = document.version;
    let finding = |fault, detail| Finding { account, fault, detail, version: reached };
    match (folding.balance(), folding.poison()) {
        (Some(fold), _) if fold.version == reached => compare(fold, document),
        (_, Some((at, reason))) => {
            // The document claims events that cannot be folded.
            Some(finding(Fault::Diverged, format!("event {at} cannot be folded: {reason}")))
        }
        (Some(Balance { version, .. }), None) => {
            Some(finding(Fault::Ahead, format!("the document is at {reached}, the store's events fold to {version}")))
        }
        (None, None) => Some(finding(Fault::Orphan, "there is a document and no event".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::partition::{PartitionMap, SlotRange};
    use tokio::time::Instant;

    use super::super::check::Progress;
    use super::*;
    use crate::right_of_way::{GIVE_WAY_MAX, RightOfWay};
    use crate::testing::embedded;
    use shared::index::BalanceIndex;

    #[test]
    fn a_document_that_is_not_there_is_at_no_version() {
        let account = AccountId::from_bytes([7; 16]);
        let missing = judged(account, Version::new(3), &Loaded::default(), None).unwrap();
        assert_eq!((missing.fault, &*missing.detail), (Fault::Missing, "there is no document, the store was at v3"));
        assert_eq!(judged(account, Version::EMPTY, &Loaded::default(), None), None);
    }

    #[tokio::test]
    async fn the_second_look_gives_way_as_often_as_it_asks_the_index() {
        let (backends, _folder) = embedded(PartitionMap::new(1).unwrap()).await;
        let (right_of_way, progress) = (RightOfWay::default(), Progress::default());
        let comparison = Comparison {
            backends: &backends,
            generation: backends.index.create().await.unwrap(),
            slots: SlotRange::ALL,
            patience: Duration::ZERO,
            progress: &progress,
            right_of_way: &right_of_way,
        };
        let missing = |number: usize| (AccountId::from_bytes((number as u128).to_be_bytes()), Version::new(1));
        let suspects = (0..=ACCOUNTS_AT_ONCE).map(missing).collect();
        let (began, mut verification) = (Instant::now(), Verification::default());
        tokio::select! {
            biased;
            () = right_of_way.keep_claimed() => {}
            found = comparison.judge(suspects, &mut verification) => {
                assert_eq!(found.unwrap().len(), ACCOUNTS_AT_ONCE + 1);
                assert!(began.elapsed() >= GIVE_WAY_MAX * 2, "{:?}", began.elapsed());
            }
        }
    }
}
