//! A log whose server finds damage on its disk: what was not published is never read, and the partition goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use shared::coordinate::Offset;
use shared::log::{Extent, NatsLog, PartitionLog, PartitionReader, PublishError, ReadError};
use shared::store::FeedEntry;

use crate::nats_faults::{ONE, entry, opened, renewed};
use crate::own::{Own, Program, until, words};
use crate::server::fresh;

/// How many records are published before a bit flips, ten in a message.
const BEFORE_FLIP: u64 = 1_000;

/// How long a server keeps in memory what it has written, and a little more.
const CACHED_FOR: Duration = Duration::from_secs(12);

/// The block of messages that a server's only partition is stored in.
fn block_of(server: &Own) -> PathBuf {
    let folders =
        |folder: &Path| std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut open = vec![server.folder().to_owned()];
    while let Some(folder) = open.pop() {
        for path in folders(&folder) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "blk") {
                return path;
            }
        }
    }
    panic!("the server has stored nothing");
}

/// Flips a bit, this many thousandths into a file.
fn flip(file: &Path, place: usize) {
    let mut bytes = std::fs::read(file).expect("a file");
    let place = bytes.len() * place / 1_000;
    bytes[place] ^= 0x10;
    std::fs::write(file, bytes).expect("a file");
}

/// A server of its own with a partition that holds records, and the partition's end.
async fn filled() -> (Own, NatsLog, Extent) {
    let server = Own::start(Program::Nats, |folder, port| {
        words(&format!("--addr 127.0.0.1 --port {port} --jetstream --store_dir {}", folder.display()))
    })
    .await;
    let log = opened(&format!("nats://{}", server.address()), &fresh(), None).await.unwrap();
    let mut end = log.extent(ONE).await.unwrap();
    while end.last.get() < BEFORE_FLIP {
        let batch: Vec<FeedEntry> = (end.last.get() + 1..=end.last.get() + 10).map(entry).collect();
        end.last = log.publish(ONE, &end.incarnation, end.last, &batch).await.unwrap();
    }
    (server, log, end)
}

/// Reads from the start until the partition has moved; what is read until then is what was published, in order. Returns
/// how much that was, and the partition as it is now.
async fn read_until_moved(log: &NatsLog, end: &Extent) -> (u64, Extent) {
    let opened = until("the log answers", async || match log.reader(ONE, &end.incarnation, Offset::START).await {
        Ok(reader) => Some(Ok(reader)),
        Err(ReadError::Moved(extent)) => Some(Err(extent)),
        Err(ReadError::Backend(_)) => None,
    });
    let mut reader = match opened.await {
        Ok(reader) => reader,
        Err(moved) => return (0, moved),
    };
    let mut read = 0;
    let moved = until("the damage is noticed", async || match reader.next_batch(100).await {
        Ok(records) => {
            for record in records {
                read += 1;
                assert_eq!((record.offset.get(), record.recorded), (read, entry(read).recorded));
            }
            None
        }
        Err(ReadError::Moved(extent)) => Some(extent),
        Err(ReadError::Backend(_)) => None,
    });
    let moved = moved.await;
    (read, moved)
}

/// What is published now is read.
async fn goes_on(log: &NatsLog, extent: &Extent) {
    let last = log.publish(ONE, &extent.incarnation, extent.last, &[entry(7)]).await.unwrap();
    let mut reader = log.reader(ONE, &extent.incarnation, extent.last).await.unwrap();
    let next = until("a record", async || reader.next_batch(1).await.unwrap().pop()).await;
    assert_eq!((next.offset, next.recorded), (last, entry(7).recorded));
}

/// Goal: a server that finds a flipped bit when it starts gives up everything from there on. The publisher notices that
/// the end is gone, and readers get nothing but what was published before they learn of it.
#[tokio::test]
async fn a_bit_that_flips_under_a_server_that_is_down_costs_the_end_of_the_partition_and_is_noticed() {
    for place in [300, 700] {
        let (mut server, log, end) = filled().await;
        server.kill();
        flip(&block_of(&server), place);
        server.start_again().await;
        let publishing = async {
            until("the publisher learns of it", async || {
                match log.publish(ONE, &end.incarnation, end.last, &[entry(BEFORE_FLIP + 1)]).await {
                    Err(PublishError::Conflict(extent)) if extent.last < end.last => Some(()),
                    Err(PublishError::Backend(_)) => None,
                    outcome => panic!("{outcome:?}"),
                }
            })
            .await;
            renewed(&log, &end.incarnation).await
        };
        let (renewed, (read, moved)) = futures::join!(publishing, read_until_moved(&log, &end));
        assert!(read < BEFORE_FLIP, "nothing was damaged at {place}");
        assert_eq!(moved.incarnation, renewed.incarnation);
        goes_on(&log, &moved).await;
    }
}

/// Goal: a message that a running server can no longer read from its disk ends the incarnation, for the server neither
/// delivers it nor says why.
#[tokio::test]
async fn a_bit_that_flips_under_a_running_server_ends_the_incarnation() {
    join_all([500, 995].map(async |place| {
        let (server, log, end) = filled().await;
        flip(&block_of(&server), place);
        // Until then the server reads from its memory.
        tokio::time::sleep(CACHED_FOR).await;
        let (read, moved) = read_until_moved(&log, &end).await;
        assert!(read < BEFORE_FLIP, "nothing was damaged at {place}");
        assert_ne!(moved.incarnation, end.incarnation);
        goes_on(&log, &moved).await;
    }))
    .await;
}
