//! How often NATS is waited for: a few times for thousands of records.

use shared::clock::Clock;
use shared::id::Ids;
use shared::log::{NatsLog, NatsOptions, PartitionLog, PartitionReader};
use shared::partition::{Partition, PartitionMap};

use super::nats::{entries, fresh, stream};
use super::server::Server;
use super::tap::Tap;

const ONE: Partition = Partition::new(1);

#[tokio::test]
async fn thousands_of_records_are_published_and_read_with_few_answers() {
    let (tap, namespace) = (Tap::on(Server::Nats).await, fresh());
    let url = format!("nats://{}", tap.address());
    let (map, ids) = (PartitionMap::new(1).unwrap(), Ids::new(Clock::system()));
    let options = NatsOptions { url: &url, ..NatsOptions::default() };
    let log = NatsLog::open(options, &namespace, map, ids).await.unwrap();
    let life = log.extent(ONE).await.unwrap();
    let before = stream(&namespace, ONE).await.cached_info().state.messages;

    // An atomic batch has 500 records, and only the last of them is answered.
    let published = tap.costs(2, log.publish(ONE, &life.incarnation, life.last, &entries(1_000))).await.unwrap();
    tap.costs(4, log.publish(ONE, &life.incarnation, published, &entries(2_000))).await.unwrap();
    let after = stream(&namespace, ONE).await.cached_info().state.messages;
    assert_eq!(after - before, 3_000, "a record is one message");

    let read = async {
        let mut reader = log.reader(ONE, &life.incarnation, life.last).await.unwrap();
        let mut left = 3_000;
        while left > 0 {
            left -= reader.next_batch(4_096).await.unwrap().len();
        }
    };
    // Four find the life and its place. Then 500 are asked for, and again so many whenever half of them have come.
    tap.costs(4 + 1 + 2 * 3_000 / 500, read).await;
}
