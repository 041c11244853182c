//! Laws X1 to X3: versions, checkpoints, parked accounts.

use futures::future::join_all;

use super::{
    account, checkpoint, document, documents, of_balances, of_checkpoint, of_parked, parked, serving, stored, write,
};
use crate::coordinate::{Epoch, Version};
use crate::event::StreamAfter;
use crate::index::{Applied, ApplyError, Balance, BalanceIndex, BalanceQuery, Checkpoint, Phase, Projected};
use crate::money::{MONEY_MAX, Money};
use crate::owner::Owner;
use crate::partition::{Partition, SlotRange};

/// [`BalanceIndex::apply`], [`BalanceIndex::load`], [`BalanceIndex::get`]
pub async fn a_document_is_read_as_it_was_written<I: BalanceIndex>(index: I) {
    let poorest = Money::new(-MONEY_MAX).unwrap();
    let written = [
        document(1, 1),
        document(2, 7),
        Balance { owner: Owner::new("Zoë O'Brien \"; -- 😀").unwrap(), ..document(3, 2) },
        Balance { balance: poorest, event_id: crate::id::EventId::from_number(u128::MAX), ..document(4, 2) },
        Balance { balance: Money::new(MONEY_MAX).unwrap(), version: Version::new(1 << 53), ..document(5, 2) },
    ];
    let generation = serving(&index, written.to_vec()).await;
    assert_eq!(stored(&index, generation, &[1, 2, 3, 4, 5]).await, written.clone().map(Some));
    for balance in written {
        assert_eq!(index.get(balance.id).await.unwrap(), Some(balance));
    }
    assert_eq!(index.get(account(6)).await.unwrap(), None);
}

/// X1: when the checkpoint is there, so is everything it covers.
pub async fn a_checkpoint_is_read_as_it_was_written<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    assert_eq!(index.checkpoint(generation, Partition::new(1)).await.unwrap(), None);
    let place = StreamAfter { stream: account(9), after: Version::new(4) };
    let phases = [
        Phase::Replaying { after: None, done: 1 << 40 },
        Phase::Replaying { after: Some(place), done: 17 },
        Phase::Live { replayed: 7 },
    ];
    for (number, phase) in (1..).zip(phases) {
        let checkpoint = Checkpoint { phase, ..checkpoint(1, 3, 1 << 40) };
        let projected = Projected {
            balances: documents([number], 1),
            parked: vec![parked(number, 2, "unknown")],
            checkpoint: Some(checkpoint.clone()),
        };
        assert_eq!(index.apply(generation, &projected).await.unwrap(), Applied { written: 1, stale: 0 });
        assert_eq!(index.checkpoint(generation, Partition::new(1)).await.unwrap(), Some(checkpoint));
        let loaded = index.load(generation, &[account(number)]).await.unwrap();
        assert_eq!(loaded[0].balance, Some(document(number, 1)));
        assert_eq!(loaded[0].parked, Some(parked(number, 2, "unknown")));
    }
}

/// [`BalanceIndex::apply`], [`BalanceIndex::repair`]
pub async fn a_later_version_replaces_the_whole_document<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    write(&index, generation, documents([1, 2, 3], 1)).await;
    let renamed = Balance { id: account(1), ..document(8, 2) };
    write(&index, generation, vec![renamed.clone()]).await;
    assert_eq!(stored(&index, generation, &[1]).await, [Some(renamed.clone())]);
    let repaired = Balance { owner: Owner::new("Somebody else").unwrap(), ..renamed.clone() };
    index.repair(generation, vec![repaired.clone()]).await.unwrap();
    assert_eq!(stored(&index, generation, &[1]).await, [Some(repaired.clone())]);

    index.prepare(generation).await.unwrap();
    index.promote(generation, None).await.unwrap();
    for owner in [document(1, 1).owner, renamed.owner, repaired.owner.clone()] {
        let query = BalanceQuery { owner: Some(owner.clone()), ..BalanceQuery::default() };
        let expected: Vec<Balance> = [repaired.clone()].into_iter().filter(|found| found.owner == owner).collect();
        assert_eq!(index.search(&query).await.unwrap().balances, expected);
    }
}

/// X2
pub async fn an_equal_or_lower_version_is_skipped<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    write(&index, generation, documents([1, 2, 3], 5)).await;
    let twin = Balance { balance: Money::ZERO, ..document(1, 5) };
    let mixed = vec![twin, document(2, 4), document(3, 6), document(4, 1)];
    assert_eq!(index.apply(generation, &of_balances(mixed)).await.unwrap(), Applied { written: 2, stale: 2 });
    let expected = [document(1, 5), document(2, 5), document(3, 6), document(4, 1)].map(Some);
    assert_eq!(stored(&index, generation, &[1, 2, 3, 4]).await, expected);
}

/// X2
pub async fn concurrent_writers_end_with_the_highest_version<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    let writers = [3, 8, 1, 7, 2, 6, 5, 4].map(|version| {
        let index = index.clone();
        async move { index.apply(generation, &of_balances(documents(1..50, version))).await.unwrap() }
    });
    for applied in join_all(writers).await {
        assert_eq!(applied.written + applied.stale, 49);
    }
    let numbers: Vec<u16> = (1..50).collect();
    let expected: Vec<_> = documents(1..50, 8).into_iter().map(Some).collect();
    assert_eq!(stored(&index, generation, &numbers).await, expected);
}

/// X3
pub async fn a_checkpoint_of_a_lower_epoch_is_refused<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    let partition = Partition::new(1);
    for (epoch, offset) in [(5, 10), (5, 9), (7, 3)] {
        let taken = checkpoint(1, epoch, offset);
        index.apply(generation, &of_checkpoint(taken.clone())).await.unwrap();
        assert_eq!(index.checkpoint(generation, partition).await.unwrap(), Some(taken));
    }
    for epoch in [6, 5, 0] {
        let refused = index.apply(generation, &of_checkpoint(checkpoint(1, epoch, 99))).await;
        assert!(matches!(refused, Err(ApplyError::Fenced { current }) if current == Epoch::new(7)), "{refused:?}");
        assert_eq!(index.checkpoint(generation, partition).await.unwrap(), Some(checkpoint(1, 7, 3)));
    }
}

/// X3
pub async fn checkpoints_of_partitions_and_generations_stand_apart<I: BalanceIndex>(index: I) {
    let [first, second] = [index.create().await.unwrap(), index.create().await.unwrap()];
    index.apply(first, &of_checkpoint(checkpoint(1, 9, 1))).await.unwrap();
    index.apply(first, &of_checkpoint(checkpoint(2, 3, 2))).await.unwrap();
    index.apply(second, &of_checkpoint(checkpoint(1, 1, 3))).await.unwrap();
    let found = async |generation, partition| index.checkpoint(generation, Partition::new(partition)).await.unwrap();
    assert_eq!(found(first, 1).await, Some(checkpoint(1, 9, 1)));
    assert_eq!(found(first, 2).await, Some(checkpoint(2, 3, 2)));
    assert_eq!(found(second, 1).await, Some(checkpoint(1, 1, 3)));
    assert_eq!(found(second, 2).await, None);
}

/// [`Projected::checkpoint`]
pub async fn a_write_without_a_checkpoint_keeps_the_old_one<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    index.apply(generation, &of_checkpoint(checkpoint(1, 2, 3))).await.unwrap();
    write(&index, generation, documents([1], 1)).await;
    assert_eq!(index.checkpoint(generation, Partition::new(1)).await.unwrap(), Some(checkpoint(1, 2, 3)));
}

/// [`BalanceIndex::repair`] and X2
pub async fn a_repair_overwrites_the_same_version_and_no_later_one<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    let wrong = Balance { balance: Money::ZERO, ..document(1, 5) };
    write(&index, generation, vec![wrong, document(2, 6)]).await;
    let outdated = Balance { balance: Money::ZERO, ..document(2, 5) };
    index.repair(generation, vec![document(1, 5), outdated]).await.unwrap();
    assert_eq!(stored(&index, generation, &[1, 2]).await, [Some(document(1, 5)), Some(document(2, 6))]);
}

/// [`Projected::parked`]
pub async fn a_parked_account_keeps_its_first_entry<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    index.apply(generation, &of_parked(vec![parked(1, 3, "first"), parked(2, 1, "other")])).await.unwrap();
    index.apply(generation, &of_parked(vec![parked(1, 5, "second")])).await.unwrap();
    let loaded = index.load(generation, &[account(1), account(2)]).await.unwrap();
    assert_eq!(loaded[0].parked, Some(parked(1, 3, "first")));
    assert_eq!(loaded[1].parked, Some(parked(2, 1, "other")));
    assert_eq!(loaded[0].balance, None);
}

/// [`BalanceIndex::unpark`]
pub async fn an_unparked_account_may_park_again<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    index.apply(generation, &of_parked(vec![parked(1, 3, "first"), parked(2, 1, "other")])).await.unwrap();
    index.unpark(generation, &[account(1), account(99)]).await.unwrap();
    let loaded = index.load(generation, &[account(1), account(2)]).await.unwrap();
    assert_eq!((&loaded[0].parked, &loaded[1].parked), (&None, &Some(parked(2, 1, "other"))));
    index.apply(generation, &of_parked(vec![parked(1, 5, "second")])).await.unwrap();
    assert_eq!(index.load(generation, &[account(1)]).await.unwrap()[0].parked, Some(parked(1, 5, "second")));
}

/// [`Projected::parked`]
pub async fn an_account_whose_entry_its_document_has_passed_can_be_parked_again<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    let entries = of_parked(vec![parked(1, 3, "passed"), parked(2, 3, "counts"), parked(3, 3, "passed in the batch")]);
    index.apply(generation, &entries).await.unwrap();
    write(&index, generation, vec![document(1, 3), document(2, 2), document(3, 2)]).await;
    let again = (1..=3).map(|number| parked(number, 6, "again")).collect();
    index.apply(generation, &Projected { balances: documents([3], 5), ..of_parked(again) }).await.unwrap();
    let loaded = index.load(generation, &[account(1), account(2), account(3)]).await.unwrap();
    let found: Vec<_> = loaded.into_iter().map(|loaded| loaded.parked).collect();
    let expected = [parked(1, 6, "again"), parked(2, 3, "counts"), parked(3, 6, "again")].map(Some);
    assert_eq!(found, expected);
    let listed = index.parked(generation, SlotRange::ALL, None, 10).await.unwrap();
    assert_eq!(listed.into_iter().map(Some).collect::<Vec<_>>(), expected, "each account has one entry");
}
