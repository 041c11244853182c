//! How often NATS is waited for: a few times for thousands of records.

use shared::config::Namespace;
use shared::coordinate::Offset;
use shared::log::contract::plain_entries;
use shared::log::{NatsLog, NatsOptions, PartitionLog, PartitionReader};
use shared::partition::{Partition, PartitionMap};

use super::nats::stream;
use super::server::{Server, fresh, ids};
use super::tap::Tap;

const ONE: Partition = Partition::new(1);

/// An empty log of one partition, whose answers are counted.
async fn tapped() -> (Tap, Namespace, NatsLog) {
    let (tap, namespace) = (Tap::on(Server::Nats).await, fresh());
    let url = format!("nats://{}", tap.address());
    let map = PartitionMap::new(1).unwrap();
    let options = NatsOptions { url: &url, ..NatsOptions::default() };
    let log = NatsLog::open(options, &namespace, map, ids()).await.unwrap();
    (tap, namespace, log)
}

#[tokio::test]
async fn thousands_of_records_are_published_and_read_with_few_answers() {
    let (tap, namespace, log) = tapped().await;
    let life = log.extent(ONE).await.unwrap();
    let before = stream(&namespace, ONE).await.cached_info().state.messages;

    // A message holds a thousand records, and is answered.
    let published =
        tap.costs(1, log.publish(ONE, &life.incarnation, life.last, &plain_entries(1..=1_000))).await.unwrap();
    tap.costs(2, log.publish(ONE, &life.incarnation, published, &plain_entries(1..=2_000))).await.unwrap();
    let after = stream(&namespace, ONE).await.cached_info().state.messages;
    assert_eq!(after - before, 3, "a thousand records are one message");

    let read = async {
        let mut reader = log.reader(ONE, &life.incarnation, life.last).await.unwrap();
        let mut left = 3_000;
        while left > 0 {
            left -= reader.next_batch(4_096).await.unwrap().len();
        }
    };
    // Four find the incarnation and its ends, one creates the delivery; then 16 messages are asked for.
    tap.costs(4 + 1 + 1, read).await;
}

/// What an idle bank asks again and again.
#[tokio::test]
async fn a_reader_that_waits_looks_with_one_question_and_a_place_is_found_by_halving() {
    let (tap, _, log) = tapped().await;
    let life = log.extent(ONE).await.unwrap();
    let mut end = life.last;
    for _ in 0..64 {
        end = log.publish(ONE, &life.incarnation, end, &plain_entries(1..=3)).await.unwrap();
    }
    let mut reader = log.reader(ONE, &life.incarnation, end).await.unwrap();
    assert!(reader.next_batch(10).await.unwrap().is_empty());
    tap.costs(1, async { assert!(reader.next_batch(10).await.unwrap().is_empty()) }).await;
    // Of 64 messages the right one is found with six questions, beside those of every opening.
    tap.costs(4 + 1 + 6, log.reader(ONE, &life.incarnation, Offset::new(100))).await.unwrap();
}
