//! How many requests to Elasticsearch the calls of the services take: a few for thousands of documents.

use shared::id::AccountId;
use shared::index::{Balance, BalanceIndex, ElasticOptions, Projected};
use shared::partition::SlotRange;

use super::pressure::checkpoint;
use super::{Scratch, document};
use crate::server::Server;
use crate::tap::Tap;

fn ids(count: u128) -> Vec<AccountId> {
    (0..count).map(|number| AccountId::from_bytes(number.to_be_bytes())).collect()
}

fn batch(ids: &[AccountId], version: u64) -> Projected {
    let balances = ids.iter().map(|id| Balance { id: *id, ..document(1, version) }).collect();
    Projected { balances, checkpoint: Some(checkpoint(version)), ..Projected::default() }
}

#[tokio::test]
async fn thousands_of_documents_are_written_and_read_with_few_requests() {
    let (tap, scratch) = (Tap::on(Server::Elastic).await, Scratch::new());
    let index = scratch.index_at(&format!("http://{}", tap.address()), &ElasticOptions::default());
    let generation = index.create().await.unwrap();

    // A bulk, and the checkpoint after it.
    let thousand = ids(1_000);
    assert_eq!(tap.costs(2, index.apply(generation, &batch(&thousand, 1))).await.unwrap().written, 1_000);
    // A bulk has 2,000 lines.
    let many = ids(10_000);
    assert_eq!(tap.costs(6, index.apply(generation, &batch(&many, 2))).await.unwrap().written, 10_000);

    let loaded = tap.costs(1, index.load(generation, &thousand)).await.unwrap();
    assert!(loaded.iter().all(|loaded| loaded.balance.is_some()));
    // A request asks for 2,000 accounts.
    tap.costs(5, index.load(generation, &many)).await.unwrap();

    // A refresh before the first page of 4,096, and a search for each.
    let page = tap.costs(2, index.versions(generation, SlotRange::ALL, None, 4_096)).await.unwrap();
    let after = page.last().map(|(account, _)| *account);
    tap.costs(1, index.versions(generation, SlotRange::ALL, after, 4_096)).await.unwrap();
}
