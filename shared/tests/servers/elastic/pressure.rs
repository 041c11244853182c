//! A server that is full.

use std::time::Duration;

use elasticsearch::http::Method;
use serde_json::{Value, json};
use shared::coordinate::{Epoch, Offset};
use shared::error::{Effect, Retry};
use shared::index::{ApplyError, BalanceIndex, Checkpoint, Generation, Phase, Projected};
use shared::log::Incarnation;
use shared::partition::{Partition, SlotRange};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Scratch, ask, document, empty_index};

/// How long a write may take to get through before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The pause between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

pub(super) fn checkpoint(offset: u64) -> Checkpoint {
    Checkpoint {
        partition: Partition::new(1),
        epoch: Epoch::new(1),
        incarnation: Incarnation("life".into()),
        offset: Offset::new(offset),
        phase: Phase::Live { replayed: 0 },
    }
}

/// What Elasticsearch does to every index of a node whose disk is nearly full, and undoes when there is room.
async fn flood(scratch: &Scratch, index: &str, is_full: bool) {
    let block = json!({ "index.blocks.read_only_allow_delete": if is_full { json!(true) } else { Value::Null } });
    assert!(index.starts_with(&scratch.alias()));
    assert_eq!(ask(Method::Put, &format!("{index}/_settings"), Some(block)).await.0, 200);
}

#[tokio::test]
async fn a_full_disk_is_waited_out_and_nobody_is_parked_for_it() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    let batch = |version| Projected {
        balances: vec![document(1, version), document(2, version)],
        checkpoint: Some(checkpoint(version)),
        ..Projected::default()
    };
    index.apply(generation, &batch(1)).await.unwrap();
    // First the index of documents is full, then the one beside it: the checkpoint is never ahead (law X1).
    for (version, full) in [(2, scratch.documents(generation)), (3, scratch.work(generation))] {
        flood(&scratch, &full, true).await;
        let applied = index.apply(generation, &batch(version)).await;
        let Err(ApplyError::Backend(failure)) = applied else { panic!("{applied:?}") };
        assert_eq!((failure.effect, failure.retry), (Effect::Unknown, Retry::Later), "{failure}");
        assert!(failure.to_string().contains("cluster_block_exception"), "{failure}");
        assert_eq!(noted(&index, generation).await, version - 1);
        // Queries go on.
        assert!(index.load(generation, &[document(1, 1).id]).await.unwrap()[0].balance.is_some());

        flood(&scratch, &full, false).await;
        index.apply(generation, &batch(version)).await.unwrap();
        assert_eq!(noted(&index, generation).await, version);
    }
    assert_eq!(index.parked(generation, SlotRange::ALL, None, 10).await.unwrap(), []);
}

async fn noted(index: &impl BalanceIndex, generation: Generation) -> u64 {
    index.checkpoint(generation, Partition::new(1)).await.unwrap().unwrap().offset.get()
}

/// As a worker does: again and again, until an operator makes room.
#[tokio::test]
async fn a_write_that_is_repeated_gets_through_when_there_is_room_again() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    flood(&scratch, &scratch.documents(generation), true).await;
    let refused = Notify::new();
    let writes = async {
        loop {
            match index.apply(generation, &super::projected(vec![document(1, 1)])).await {
                Ok(applied) => return applied.written,
                Err(ApplyError::Backend(_)) => refused.notify_one(),
                Err(other) => panic!("{other}"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    };
    let makes_room = async {
        refused.notified().await;
        flood(&scratch, &scratch.documents(generation), false).await;
    };
    let both = async { tokio::join!(writes, makes_room) };
    let (written, ()) = timeout(PATIENCE, both).await.expect("a write is refused, and then taken");
    assert_eq!(written, 1);
}

#[tokio::test]
async fn lists_of_versions_are_longer_than_one_search() {
    let (index, _scratch) = empty_index();
    let generation = index.create().await.unwrap();
    let number = |number: u32| shared::id::AccountId::from_bytes(u128::from(number).to_be_bytes());
    let many = (0..12_000).map(|n| shared::index::Balance { id: number(n), ..document(1, 3) }).collect();
    index.apply(generation, &super::projected(many)).await.unwrap();
    let all = index.versions(generation, SlotRange::ALL, None, 20_000).await.unwrap();
    assert_eq!(all.len(), 12_000);
    let order = |id| (shared::partition::Slot::of(id), *id);
    assert!(all.windows(2).all(|pair| order(&pair[0].0) < order(&pair[1].0)));
    let page = index.versions(generation, SlotRange::ALL, Some(all[499].0), 10_500).await.unwrap();
    assert_eq!(page, all[500..11_000]);
}
