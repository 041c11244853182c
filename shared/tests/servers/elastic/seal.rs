//! What a seal blocks and what it does not.

use elasticsearch::http::Method;
use serde_json::json;
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::index::{ApplyError, BalanceIndex, Generation, Generations, Parked, Projected, PromoteError, Seal};
use shared::partition::{Partition, SlotRange};
use uuid::Uuid;

use super::pressure::checkpoint;
use super::{Scratch, ask, document, empty_index, projected};

const SEAL: Seal = Seal(Uuid::from_u128(1));

/// Lifts the write block, as a late call of a finished job does.
async fn lift_block(scratch: &Scratch, generation: Generation) {
    let lifted = json!({ "index.blocks.write": null });
    let settings = format!("{}/_settings", scratch.documents(generation));
    assert_eq!(ask(Method::Put, &settings, Some(lifted)).await.0, 200);
}

/// A call that lifts an earlier seal may arrive when the next seal is in place.
#[tokio::test]
async fn a_seal_refuses_writes_also_without_its_block() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    index.seal(generation, SEAL).await.unwrap();
    lift_block(&scratch, generation).await;
    let refused = index.apply(generation, &projected(vec![document(1, 1)])).await;
    assert!(matches!(refused, Err(ApplyError::Sealed(_))), "{refused:?}");
}

/// A write that was delayed since before the seal might otherwise come through.
#[tokio::test]
async fn nothing_is_promoted_from_under_a_seal_that_has_lost_its_block() {
    let (index, scratch) = empty_index();
    let old = index.create().await.unwrap();
    index.promote(old, None).await.unwrap();
    let new = index.create().await.unwrap();
    let sealing = index.seal(old, SEAL).await.unwrap();
    lift_block(&scratch, old).await;
    let refused = index.promote(new, Some((old, sealing))).await;
    let Err(PromoteError::Backend(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.to_string().contains("seal again"), "{failure}");
    assert_eq!(index.generations().await.unwrap().active, Some(old));

    let sealing = index.seal(old, SEAL).await.unwrap();
    index.promote(new, Some((old, sealing))).await.unwrap();
    assert_eq!(index.generations().await.unwrap().active, Some(new));
}

/// The block of a seal may arrive late, when nothing is sealed any more.
#[tokio::test]
async fn a_block_without_a_seal_is_told_and_the_next_seal_takes_it_along() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    assert_eq!(ask(Method::Put, &format!("{}/_block/write", scratch.documents(generation)), None).await.0, 200);
    let refused = index.apply(generation, &projected(vec![document(1, 1)])).await;
    let Err(ApplyError::Backend(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.to_string().contains("index.blocks.write"), "{failure}");
    index.seal(generation, SEAL).await.unwrap();
    index.unseal(generation, SEAL).await.unwrap();
    index.apply(generation, &projected(vec![document(1, 1)])).await.unwrap();
}

/// What is written beside the documents does not contradict the seal: the checkpoint covers documents that were written
/// before, and no document changes.
#[tokio::test]
async fn checkpoints_and_parked_accounts_under_a_seal_move_no_document() {
    let (index, _scratch) = empty_index();
    let generation = index.create().await.unwrap();
    index.apply(generation, &projected(vec![document(1, 1)])).await.unwrap();
    index.seal(generation, SEAL).await.unwrap();
    let before = index.versions(generation, SlotRange::ALL, None, 10).await.unwrap();

    let beside = Projected { checkpoint: Some(checkpoint(4)), ..Projected::default() };
    index.apply(generation, &beside).await.unwrap();
    let parked = Parked {
        account: document(1, 1).id,
        at: Version::new(2),
        reason: "poison".to_owned(),
        since: Timestamp::EPOCH,
    };
    index.apply(generation, &Projected { parked: vec![parked], ..Projected::default() }).await.unwrap();
    assert_eq!(index.versions(generation, SlotRange::ALL, None, 10).await.unwrap(), before);

    // A batch with a document is refused as a whole, above all its checkpoint.
    let ahead = Projected { balances: vec![document(1, 2)], checkpoint: Some(checkpoint(9)), ..Projected::default() };
    let refused = index.apply(generation, &ahead).await;
    assert!(matches!(refused, Err(ApplyError::Sealed(_))), "{refused:?}");
    let noted = index.checkpoint(generation, Partition::new(1)).await.unwrap().unwrap();
    assert_eq!(noted, checkpoint(4));
}

/// One process may promote what another one has begun to discard.
#[tokio::test]
async fn a_generation_that_is_being_discarded_cannot_become_active() {
    let (index, scratch) = empty_index();
    let [active, new] = [index.create().await.unwrap(), index.create().await.unwrap()];
    index.promote(active, None).await.unwrap();
    let sealing = index.seal(active, SEAL).await.unwrap();
    // A discard that ended half-way.
    let documents = scratch.documents(new);
    let begun = json!({ "actions": [
        { "remove": { "index": documents, "alias": format!("{documents}-idle") } },
        { "add": { "index": documents, "alias": format!("{documents}-discarded") } },
    ] });
    assert_eq!(ask(Method::Post, "_aliases", Some(begun)).await.0, 200);
    let refused = index.promote(new, Some((active, sealing))).await;
    assert!(refused.is_err(), "{refused:?}");
    index.discard(new).await.unwrap();
    let expected = Generations { active: Some(active), all: vec![active], sealed: vec![(active, SEAL)] };
    assert_eq!(index.generations().await.unwrap(), expected);
}

#[tokio::test]
async fn an_alias_that_writes_need_and_somebody_removed_is_named() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    let open = format!("{}-open", scratch.documents(generation));
    assert_eq!(ask(Method::Delete, &format!("{}/_alias/{open}", scratch.documents(generation)), None).await.0, 200);
    let refused = index.apply(generation, &projected(vec![document(1, 1)])).await;
    let Err(ApplyError::Backend(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.to_string().contains(&open), "{failure}");
}
