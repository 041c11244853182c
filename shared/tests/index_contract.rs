//! The embedded index keeps the laws of the index, and some promises of its own.

use std::path::Path;

use shared::clock::Timestamp;
use shared::coordinate::{Epoch, Offset, Version};
use shared::id::{AccountId, EventId};
use shared::index::{
    AccountStatus, ApplyError, Balance, BalanceIndex, BalanceQuery, Checkpoint, EmbeddedIndex, Generations, Parked,
    Phase, Projected, Seal,
};
use shared::log::Incarnation;
use shared::money::Money;
use shared::owner::Owner;
use shared::partition::Partition;
use shared::sqlite::DataFolder;
use tempfile::TempDir;

const PARTITION: Partition = Partition::new(1);

fn empty_index() -> (EmbeddedIndex, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    (opened(dir.path()), dir)
}

fn opened(path: &Path) -> EmbeddedIndex {
    let folder = DataFolder::open(path).expect("a folder nobody else uses");
    EmbeddedIndex::open(&folder).expect("an index that is new or ours")
}

shared::index_contract!(std::future::ready(empty_index()));

fn document(number: u8, version: u64) -> Balance {
    Balance {
        id: AccountId::from_bytes([number; 16]),
        event_id: EventId::from_number(u128::from(version)),
        owner: Owner::new("Ann").expect("a name"),
        status: AccountStatus::Open,
        currency: "EUR".parse().expect("a currency"),
        balance: Money::ZERO,
        version: Version::new(version),
        opened_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

fn projected(version: u64, epoch: u64) -> Projected {
    let incarnation = Incarnation("first life".into());
    let (epoch, offset) = (Epoch::new(epoch), Offset::new(version));
    Projected {
        balances: vec![document(1, version), document(2, version)],
        parked: vec![Parked {
            account: AccountId::from_bytes([3; 16]),
            at: Version::new(1),
            reason: "unknown".to_owned(),
            since: Timestamp::EPOCH,
        }],
        checkpoint: Some(Checkpoint {
            partition: PARTITION,
            epoch,
            incarnation,
            offset,
            phase: Phase::Live { replayed: 7 },
        }),
    }
}

#[tokio::test]
async fn everything_is_there_when_the_index_is_opened_again() {
    let (index, dir) = empty_index();
    let [discarded, active, sealed] =
        [index.create().await.unwrap(), index.create().await.unwrap(), index.create().await.unwrap()];
    let seal = Seal(uuid::Uuid::from_u128(7));
    index.apply(active, &projected(4, 9)).await.unwrap();
    index.promote(active, None).await.unwrap();
    index.seal(sealed, seal).await.unwrap();
    index.discard(discarded).await.unwrap();
    drop(index);

    let index = opened(dir.path());
    let expected = Generations { active: Some(active), all: vec![active, sealed], sealed: vec![(sealed, seal)] };
    assert_eq!(index.generations().await.unwrap(), expected);
    assert_eq!(index.checkpoint(active, PARTITION).await.unwrap(), projected(4, 9).checkpoint);
    let loaded = index.load(active, &[document(1, 4).id, AccountId::from_bytes([3; 16])]).await.unwrap();
    assert_eq!(loaded[0].balance, Some(document(1, 4)));
    assert_eq!(loaded[1].parked, projected(4, 9).parked.pop());
    assert_eq!(index.search(&BalanceQuery::default()).await.unwrap().balances, [document(1, 4), document(2, 4)]);
    assert!(matches!(index.apply(active, &projected(5, 8)).await, Err(ApplyError::Fenced { .. })));
    let next = index.create().await.unwrap();
    assert!(next > sealed, "numbers go on");
}

/// The port promises less, since a server cannot undo documents for the sake of a checkpoint.
#[tokio::test]
async fn a_refused_checkpoint_refuses_the_documents_beside_it() {
    let (index, _dir) = empty_index();
    let generation = index.create().await.unwrap();
    index.apply(generation, &projected(4, 9)).await.unwrap();
    let refused = index.apply(generation, &projected(5, 8)).await;
    assert!(matches!(refused, Err(ApplyError::Fenced { current }) if current == Epoch::new(9)));
    assert_eq!(index.load(generation, &[document(1, 4).id]).await.unwrap()[0].balance, Some(document(1, 4)));
}
