//! Laws X4 to X6: which generations exist, which is active, which are sealed and which are gone.

use std::collections::BTreeSet;

use futures::future::{join, join_all};
use tokio::task::yield_now;
use uuid::Uuid;

use super::{SEAL, account, document, documents, is_gone, of_balances, seal, serving, stored, switch, write};
use crate::error::{Effect, Retry};
use crate::index::{
    ApplyError, BalanceIndex, BalanceQuery, Generation, Generations, PromoteError, QueryError, Seal, Sealing,
};

/// What exists when there is only one generation, the active one.
fn only(active: Generation) -> Generations {
    Generations { active: Some(active), all: vec![active], sealed: vec![] }
}

/// [`BalanceIndex::generations`]
pub async fn a_fresh_index_has_no_generation<I: BalanceIndex>(index: I) {
    assert_eq!(index.generations().await.unwrap(), Generations::default());
    assert!(is_gone(&index, Generation(1)).await);
}

/// [`BalanceIndex::create`]
pub async fn a_generation_has_a_number_that_was_never_used<I: BalanceIndex>(index: I) {
    let mut made = BTreeSet::new();
    for _ in 0..4 {
        let generation = index.create().await.unwrap();
        assert!(made.insert(generation), "{generation} was used before");
        index.discard(generation).await.unwrap();
    }
    let together = join_all((0..4).map(|_| index.create())).await;
    let kept: BTreeSet<Generation> = together.into_iter().map(Result::unwrap).collect();
    assert_eq!(kept.len(), 4);
    assert!(made.is_disjoint(&kept));
    let expected = Generations { all: kept.into_iter().collect(), ..Generations::default() };
    assert_eq!(index.generations().await.unwrap(), expected);
}

/// X4
pub async fn queries_are_refused_until_a_generation_is_promoted<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    write(&index, generation, documents([1], 1)).await;
    assert!(matches!(index.get(account(1)).await, Err(QueryError::NoGeneration)));
    assert!(matches!(index.search(&BalanceQuery::default()).await, Err(QueryError::NoGeneration)));

    index.promote(generation, None).await.unwrap();
    assert_eq!(index.get(account(1)).await.unwrap(), Some(document(1, 1)));
    assert_eq!(index.search(&BalanceQuery::default()).await.unwrap().balances, documents([1], 1));
}

/// X4
pub async fn queries_see_the_promoted_generation_alone<I: BalanceIndex>(index: I) {
    let first = serving(&index, documents([1, 2], 3)).await;
    let second = serving(&index, documents([2, 3], 4)).await;
    let expected = Generations { active: Some(second), all: vec![first, second], sealed: vec![] };
    assert_eq!(index.generations().await.unwrap(), expected);
    assert_eq!(index.search(&BalanceQuery::default()).await.unwrap().balances, documents([2, 3], 4));
    assert_eq!(index.get(account(1)).await.unwrap(), None);

    write(&index, first, documents([1, 2], 5)).await;
    assert_eq!(index.get(account(2)).await.unwrap(), Some(document(2, 4)));
    switch(&index, Some(second), first).await.unwrap();
    assert_eq!(index.search(&BalanceQuery::default()).await.unwrap().balances, documents([1, 2], 5));
}

/// X4
pub async fn a_query_during_a_swap_sees_one_generation<I: BalanceIndex>(index: I) {
    let old = serving(&index, documents(1..40, 1)).await;
    let new = index.create().await.unwrap();
    write(&index, new, documents(1..40, 2)).await;
    let swaps = async {
        for _ in 0..10 {
            switch(&index, Some(old), new).await.unwrap();
            switch(&index, Some(new), old).await.unwrap();
        }
    };
    let queries = async {
        for _ in 0..40 {
            let found = index.search(&BalanceQuery::default()).await.unwrap().balances;
            assert!(found == documents(1..40, 1) || found == documents(1..40, 2));
        }
    };
    join(swaps, queries).await;
}

/// [`BalanceIndex::promote`]
pub async fn promoting_compares_before_it_sets<I: BalanceIndex>(index: I) {
    let [first, second] = [index.create().await.unwrap(), index.create().await.unwrap()];
    let refused = switch(&index, Some(second), first).await;
    assert!(matches!(refused, Err(PromoteError::Moved(None))), "{refused:?}");
    assert_eq!(index.generations().await.unwrap().active, None);

    index.promote(first, None).await.unwrap();
    for wrong in [None, Some(second)] {
        let refused = switch(&index, wrong, second).await;
        assert!(matches!(refused, Err(PromoteError::Moved(Some(active))) if active == first), "{refused:?}");
        assert_eq!(index.generations().await.unwrap().active, Some(first));
    }
}

/// [`BalanceIndex::promote`]
pub async fn of_two_concurrent_promotes_one_wins<I: BalanceIndex>(index: I) {
    let mut active = None;
    for _ in 0..8 {
        let [one, other] = [index.create().await.unwrap(), index.create().await.unwrap()];
        let expected = match active {
            Some(active) => Some((active, index.seal(active, SEAL).await.unwrap())),
            None => None,
        };
        let fates = join(index.promote(one, expected), index.promote(other, expected)).await;
        let winner = match fates {
            (Ok(()), Err(PromoteError::Moved(Some(now)))) if now == one => one,
            (Err(PromoteError::Moved(Some(now))), Ok(())) if now == other => other,
            fates => panic!("{fates:?}"),
        };
        active = Some(winner);
        assert_eq!(index.generations().await.unwrap().active, active);
    }
}

/// [`BalanceIndex::promote`]
pub async fn promoting_needs_the_callers_own_seal_on_the_active_generation<I: BalanceIndex>(index: I) {
    let old = serving(&index, documents([1], 1)).await;
    let new = index.create().await.unwrap();
    let other = Seal(Uuid::from_u128(8));
    let never = Sealing { seal: SEAL, id: Uuid::nil() };
    let unsealed = index.promote(new, Some((old, never))).await;
    assert!(matches!(unsealed, Err(PromoteError::Moved(Some(active))) if active == old), "{unsealed:?}");
    let sealing = index.seal(old, other).await.unwrap();
    let foreign = index.promote(new, Some((old, never))).await;
    assert!(matches!(foreign, Err(PromoteError::Moved(Some(active))) if active == old), "{foreign:?}");
    index.promote(new, Some((old, sealing))).await.unwrap();
    assert_eq!(index.generations().await.unwrap().active, Some(new));
}

/// X5
pub async fn whoever_seals_again_is_the_only_one_to_promote<I: BalanceIndex>(index: I) {
    let old = serving(&index, documents([1], 1)).await;
    let new = index.create().await.unwrap();
    let frozen = index.seal(old, SEAL).await.unwrap();
    let other = index.seal(old, SEAL).await.unwrap();
    if frozen != other {
        match index.promote(new, Some((old, frozen))).await {
            Err(PromoteError::Backend(failure)) => {
                assert_eq!(failure.effect, Effect::None, "{failure}");
                assert_ne!(failure.retry, Retry::Never, "the switch begins again: {failure}");
            }
            promoted => panic!("{promoted:?}"),
        }
        assert_eq!(index.generations().await.unwrap().active, Some(old));
    }
    index.promote(new, Some((old, other))).await.unwrap();
    index.unseal(old, SEAL).await.unwrap();
    assert_eq!(
        index.generations().await.unwrap(),
        Generations { active: Some(new), all: vec![old, new], sealed: vec![] }
    );
}

/// [`BalanceIndex::prepare`]
pub async fn preparing_changes_nothing_anyone_sees<I: BalanceIndex>(index: I) {
    let old = serving(&index, documents([1, 2], 1)).await;
    let new = index.create().await.unwrap();
    write(&index, new, documents([1, 2], 2)).await;
    for _ in 0..2 {
        index.prepare(new).await.unwrap();
        assert_eq!(index.search(&BalanceQuery::default()).await.unwrap().balances, documents([1, 2], 1));
    }
    write(&index, new, documents([1, 2], 3)).await;
    switch(&index, Some(old), new).await.unwrap();
    assert_eq!(index.search(&BalanceQuery::default()).await.unwrap().balances, documents([1, 2], 3));
    index.discard(old).await.unwrap();
    assert!(matches!(index.prepare(old).await, Err(ApplyError::Gone(gone)) if gone == old));
}

/// [`PromoteError::Gone`]
pub async fn a_generation_that_does_not_exist_is_not_promoted<I: BalanceIndex>(index: I) {
    let active = serving(&index, documents([1], 1)).await;
    let discarded = index.create().await.unwrap();
    index.discard(discarded).await.unwrap();
    for missing in [discarded, Generation(900_000)] {
        let refused = switch(&index, Some(active), missing).await;
        assert!(matches!(refused, Err(PromoteError::Gone(gone)) if gone == missing), "{refused:?}");
    }
    assert_eq!(index.generations().await.unwrap().active, Some(active));
}

/// X5
pub async fn a_sealed_generation_takes_no_write_until_it_is_unsealed<I: BalanceIndex>(index: I) {
    let generation = serving(&index, documents([1], 1)).await;
    let other = index.create().await.unwrap();
    for _ in 0..2 {
        index.seal(generation, seal(1)).await.unwrap();
        assert_eq!(index.generations().await.unwrap().sealed, [(generation, seal(1))]);
        let applied = index.apply(generation, &of_balances(documents([1, 2], 2))).await;
        assert!(matches!(applied, Err(ApplyError::Sealed(sealed)) if sealed == generation), "{applied:?}");
        let repaired = index.repair(generation, documents([1], 2)).await;
        assert!(matches!(repaired, Err(ApplyError::Sealed(sealed)) if sealed == generation), "{repaired:?}");
    }
    assert_eq!(stored(&index, generation, &[1, 2]).await, [Some(document(1, 1)), None]);
    assert_eq!(index.get(account(1)).await.unwrap(), Some(document(1, 1)), "it answers queries all the same");
    write(&index, other, documents([1], 2)).await;

    for version in 2..4 {
        index.unseal(generation, seal(1)).await.unwrap();
        assert_eq!(index.generations().await.unwrap().sealed, []);
        write(&index, generation, documents([1], version)).await;
    }
}

/// X5
pub async fn a_seal_is_lifted_by_its_owner_alone<I: BalanceIndex>(index: I) {
    let [first, second] = [index.create().await.unwrap(), index.create().await.unwrap()];
    index.seal(first, seal(1)).await.unwrap();
    index.seal(second, seal(2)).await.unwrap();
    let refused = index.seal(first, seal(2)).await;
    assert!(matches!(refused, Err(ApplyError::Sealed(sealed)) if sealed == first), "{refused:?}");
    index.unseal(first, seal(2)).await.unwrap();
    assert_eq!(index.generations().await.unwrap().sealed, [(first, seal(1)), (second, seal(2))]);
    assert!(matches!(index.apply(first, &of_balances(documents([1], 1))).await, Err(ApplyError::Sealed(_))));

    index.unseal(first, seal(1)).await.unwrap();
    index.seal(first, seal(2)).await.unwrap();
    // A late call of the first job.
    index.unseal(first, seal(1)).await.unwrap();
    assert_eq!(index.generations().await.unwrap().sealed, [(first, seal(2)), (second, seal(2))]);

    index.discard(second).await.unwrap();
    assert_eq!(index.generations().await.unwrap().sealed, [(first, seal(2))]);
    let refused = index.seal(second, seal(2)).await;
    assert!(matches!(refused, Err(ApplyError::Gone(gone)) if gone == second), "{refused:?}");
    index.unseal(second, seal(2)).await.unwrap();
}

/// X5
pub async fn nothing_changes_behind_an_acknowledged_seal<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    let numbers: Vec<u16> = (1..20).collect();
    let writers = (0..4_u16).map(|writer| {
        let index = index.clone();
        // Each writes its own accounts until it is refused.
        async move {
            for version in 1.. {
                let mine = (1..20).filter(|number| number % 4 == writer);
                match index.apply(generation, &of_balances(documents(mine, version))).await {
                    Ok(_) => yield_now().await,
                    Err(ApplyError::Sealed(_)) => return version - 1,
                    Err(other) => panic!("{other}"),
                }
            }
            0
        }
    });
    let seals = async {
        while stored(&index, generation, &[1]).await == [None] {
            yield_now().await;
        }
        index.seal(generation, seal(1)).await.unwrap();
        stored(&index, generation, &numbers).await
    };
    let (last_versions, sealed) = join(join_all(writers), seals).await;
    assert_eq!(stored(&index, generation, &numbers).await, sealed);
    for (number, balance) in numbers.into_iter().zip(sealed) {
        let acknowledged = last_versions[usize::from(number % 4)];
        // Part of the refused write may have come through before the seal.
        let possible = [acknowledged, acknowledged + 1].map(|version| document(number, version));
        let is_possible = balance.map_or(acknowledged == 0, |balance| possible.contains(&balance));
        assert!(is_possible, "an acknowledged write is lost");
    }
}

/// X6
pub async fn a_discarded_generation_stays_gone<I: BalanceIndex>(index: I) {
    let active = serving(&index, documents([1], 1)).await;
    let generation = index.create().await.unwrap();
    write(&index, generation, documents([1, 2], 2)).await;
    for _ in 0..2 {
        index.discard(generation).await.unwrap();
        assert!(is_gone(&index, generation).await);
        let repaired = index.repair(generation, documents([1], 3)).await;
        assert!(matches!(repaired, Err(ApplyError::Gone(_))), "{repaired:?}");
        let unparked = index.unpark(generation, &[account(1)]).await;
        assert!(matches!(unparked, Err(ApplyError::Gone(_))), "{unparked:?}");
        assert_eq!(index.generations().await.unwrap(), only(active));
    }
    assert_eq!(index.get(account(1)).await.unwrap(), Some(document(1, 1)));
}

/// X6
pub async fn a_discard_among_writes_is_final<I: BalanceIndex>(index: I) {
    let generation = index.create().await.unwrap();
    let writers = (1..5_u16).map(|number| {
        let index = index.clone();
        async move {
            for version in 1.. {
                match index.apply(generation, &of_balances(documents([number], version))).await {
                    Ok(_) => yield_now().await,
                    Err(ApplyError::Gone(gone)) => return gone,
                    Err(other) => panic!("{other}"),
                }
            }
            Generation(0)
        }
    });
    let discards = async {
        while stored(&index, generation, &[1]).await == [None] {
            yield_now().await;
        }
        index.discard(generation).await.unwrap();
        index.generations().await.unwrap()
    };
    let (gone, left) = join(join_all(writers), discards).await;
    assert_eq!(gone, [generation; 4]);
    assert_eq!(left, Generations::default());
    assert_eq!(index.generations().await.unwrap(), Generations::default());
}

/// [`BalanceIndex::discard`]
pub async fn the_active_generation_is_not_discarded<I: BalanceIndex>(index: I) {
    let active = serving(&index, documents([1], 1)).await;
    index.discard(active).await.unwrap();
    assert_eq!(index.generations().await.unwrap(), only(active));
    assert_eq!(index.get(account(1)).await.unwrap(), Some(document(1, 1)));
    write(&index, active, documents([1], 2)).await;
}
