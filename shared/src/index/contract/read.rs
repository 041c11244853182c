//! Reads of workers and the verifier: documents by id, versions and parked accounts by slot.

use super::{account, document, documents, of_parked, parked, place, write};
use crate::coordinate::Version;
use crate::id::AccountId;
use crate::index::{BalanceIndex, Loaded};
use crate::partition::{PartitionMap, Slot, SlotRange};

/// [`BalanceIndex::load`]
pub async fn accounts_are_loaded_in_the_order_of_the_questions<I: BalanceIndex>(index: I) {
    let [generation, other] = [index.create().await.unwrap(), index.create().await.unwrap()];
    write(&index, generation, documents(1..600, 2)).await;
    write(&index, other, documents([700], 1)).await;
    index.apply(generation, &of_parked(vec![parked(3, 3, "unknown")])).await.unwrap();

    let questions = [5, 700, 3, 1, 5, 0];
    let loaded = index.load(generation, &questions.map(account)).await.unwrap();
    let of = |number| Loaded { balance: Some(document(number, 2)), parked: None };
    let third = Loaded { parked: Some(parked(3, 3, "unknown")), ..of(3) };
    assert_eq!(loaded, [of(5), Loaded::default(), third, of(1), of(5), Loaded::default()]);

    let all: Vec<AccountId> = (1..600).rev().map(account).collect();
    let loaded = index.load(generation, &all).await.unwrap();
    assert!(loaded.iter().zip(&all).all(|(loaded, id)| loaded.balance.as_ref().is_some_and(|found| found.id == *id)));
    assert_eq!(loaded.len(), all.len());
    assert_eq!(index.load(generation, &[]).await.unwrap(), []);
}

/// [`BalanceIndex::versions`]
pub async fn versions_are_paged_by_slot_and_account<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    // More accounts than a tenth of the slots, so that some share a slot.
    for number in 0..150 {
        write(&index, generation, documents([number], u64::from(number) + 1)).await;
    }
    let map = PartitionMap::new(3).unwrap();
    let ranges = [SlotRange::ALL, SlotRange { start: 5, end: 5 }].into_iter().chain(map.all().map(|p| map.slots(p)));
    for range in ranges {
        let mut expected: Vec<(AccountId, Version)> = (0..150)
            .map(|number| (account(number), Version::new(u64::from(number) + 1)))
            .filter(|(id, _)| range.contains(Slot::of(id)))
            .collect();
        expected.sort_by_key(|(id, _)| place(id));
        for limit in [1, 7, 150, 1_000] {
            let mut listed: Vec<(AccountId, Version)> = Vec::new();
            loop {
                let after = listed.last().map(|(id, _)| *id);
                let page = index.versions(generation, range, after, limit).await.unwrap();
                assert_eq!(page.len(), limit.min(expected.len() - listed.len()));
                let is_last = page.len() < limit;
                listed.extend(page);
                if is_last {
                    break;
                }
            }
            assert_eq!(listed, expected);
        }
    }
}

/// [`BalanceIndex::parked`]
pub async fn parked_accounts_are_paged_by_account<I: BalanceIndex>(index: I) {
    let [generation, other] = [index.create().await.unwrap(), index.create().await.unwrap()];
    let all: Vec<_> = (1..40).map(|number| parked(number, u64::from(number), "why")).collect();
    index.apply(generation, &of_parked(all.iter().rev().cloned().collect())).await.unwrap();
    index.apply(other, &of_parked(vec![parked(77, 1, "elsewhere")])).await.unwrap();
    let map = PartitionMap::new(2).unwrap();
    for range in [SlotRange::ALL].into_iter().chain(map.all().map(|partition| map.slots(partition))) {
        let expected: Vec<_> = all.iter().filter(|entry| range.contains(Slot::of(&entry.account))).cloned().collect();
        for limit in [1, 3, 100] {
            let mut listed = Vec::new();
            loop {
                let after = listed.last().map(|entry: &crate::index::Parked| entry.account);
                let page = index.parked(generation, range, after, limit).await.unwrap();
                assert_eq!(page.len(), limit.min(expected.len() - listed.len()));
                if page.is_empty() {
                    break;
                }
                listed.extend(page);
            }
            assert_eq!(listed, expected);
        }
    }
}
