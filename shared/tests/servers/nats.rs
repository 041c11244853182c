//! NATS keeps the laws of the log, and some promises of its own.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, Info, Stream};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use shared::clock::{Clock, Timestamp};
use shared::config::Namespace;
use shared::coordinate::Offset;
use shared::log::contract::plain_entries;
use shared::log::{
    Extent, NatsLog, NatsOpenError, NatsOptions, PartitionLog, PartitionReader, PublishError, ReadError,
};
use shared::partition::{Partition, PartitionMap};

use crate::server::{Server, fresh, ids};

const ONE: Partition = Partition::new(1);
const TWO: Partition = Partition::new(2);

/// Far later than every record that is published now.
pub(crate) const LATER: Timestamp = Timestamp::from_micros(i64::MAX);

async fn opened(namespace: &Namespace, partitions: u16) -> Result<NatsLog, NatsOpenError> {
    let map = PartitionMap::new(partitions).expect("a number of partitions that a bank can have");
    let options = NatsOptions { url: &Server::Nats.url(), ..NatsOptions::default() };
    NatsLog::open(options, namespace, map, ids()).await
}

async fn empty_log() -> (NatsLog, ()) {
    (opened(&fresh(), 2).await.expect("a NATS that answers"), ())
}

shared::log_contract!(in_parts: empty_log());

async fn jetstream() -> Context {
    jetstream::new(async_nats::connect(Server::Nats.url()).await.expect("a NATS that answers"))
}

pub(crate) async fn stream(namespace: &Namespace, partition: Partition) -> Stream {
    jetstream()
        .await
        .get_stream(format!("{namespace}-balance-{}", partition.get()))
        .await
        .expect("a stream that exists")
}

async fn change(namespace: &Namespace, change: impl FnOnce(&mut Config)) -> Info {
    let mut config = stream(namespace, ONE).await.cached_info().config.clone();
    change(&mut config);
    jetstream().await.update_stream(config).await.expect("a change the server takes")
}

async fn publish(log: &NatsLog, partition: Partition, count: u64) -> Extent {
    let extent = log.extent(partition).await.expect("the extent");
    log.publish(partition, &extent.incarnation, extent.last, &plain_entries(1..=count))
        .await
        .expect("a publish at the end");
    log.extent(partition).await.expect("the extent")
}

/// Reads until the reader reports that its partition moved, and where to.
async fn moved(log: &NatsLog, life: &Extent, after: u64) -> (u64, Extent) {
    let mut reader = match log.reader(ONE, &life.incarnation, Offset::new(after)).await {
        Ok(reader) => reader,
        Err(ReadError::Moved(extent)) => return (after, extent),
        Err(ReadError::Backend(failure)) => panic!("{failure}"),
    };
    let mut reached = after;
    loop {
        match reader.next_batch(10).await {
            Ok(records) => {
                for record in records {
                    assert_eq!(record.offset.get(), reached + 1);
                    reached += 1;
                }
            }
            Err(ReadError::Moved(extent)) => return (reached, extent),
            Err(ReadError::Backend(failure)) => panic!("{failure}"),
        }
    }
}

#[tokio::test]
async fn lives_offsets_and_records_are_still_there_when_the_log_is_opened_again() {
    let namespace = fresh();
    let log = opened(&namespace, 2).await.unwrap();
    publish(&log, ONE, 4).await;
    publish(&log, ONE, 5).await;
    assert_eq!(log.trim(ONE, Offset::new(4), LATER).await.unwrap(), 4);
    let before = [log.extent(ONE).await.unwrap(), publish(&log, TWO, 3).await];
    drop(log);

    let log = opened(&namespace, 2).await.unwrap();
    assert_eq!([log.extent(ONE).await.unwrap(), log.extent(TWO).await.unwrap()], before);
    let mut reader = log.reader(ONE, &before[0].incarnation, Offset::new(4)).await.unwrap();
    assert_eq!(reader.next_batch(1).await.unwrap()[0].offset, Offset::new(5));
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_with_the_way_out_and_changes_nothing() {
    let namespace = fresh();
    let before = publish(&opened(&namespace, 2).await.unwrap(), ONE, 3).await;
    let refusal = opened(&namespace, 3).await.unwrap_err();
    assert!(matches!(&refusal, NatsOpenError::Partitions { stored, asked: 3, .. } if stored == "2"));
    let text = refusal.to_string();
    assert!(text.contains("set --partitions 2") && text.contains("delete"), "{text}");
    assert!(jetstream().await.get_stream(format!("{namespace}-balance-3")).await.is_err());
    assert_eq!(opened(&namespace, 2).await.unwrap().extent(ONE).await.unwrap(), before);
}

#[tokio::test]
async fn a_stream_of_somebody_else_is_left_alone() {
    let namespace = fresh();
    let theirs = Config { name: format!("{namespace}-balance-1"), ..Config::default() };
    jetstream().await.create_stream(theirs).await.unwrap();
    assert!(matches!(opened(&namespace, 1).await, Err(NatsOpenError::Foreign { .. })));
    assert_eq!(stream(&namespace, ONE).await.cached_info().config.metadata.get("bank_partitions"), None);
}

#[tokio::test]
async fn a_partition_the_log_does_not_have_is_refused() {
    let (log, ()) = empty_log().await;
    for number in [0, 3] {
        assert!(log.extent(Partition::new(number)).await.is_err());
    }
}

#[tokio::test]
async fn a_full_partition_takes_what_has_room_and_then_nothing_until_it_is_trimmed_or_renewed() {
    let namespace = fresh();
    let log = opened(&namespace, 1).await.unwrap();
    change(&namespace, |config| config.max_messages_per_subject = 10).await;
    let mut extent = log.extent(ONE).await.unwrap();
    for _ in 0..8 {
        extent = publish(&log, ONE, 1).await;
    }
    // A message holds a thousand at most, so this is three of them.
    let batch = plain_entries(1..=2_500);
    let refused = log.publish(ONE, &extent.incarnation, extent.last, &batch).await;
    assert!(matches!(refused, Err(PublishError::Full { .. })), "{refused:?}");
    let refused = log.publish(ONE, &extent.incarnation, extent.last, &batch).await;
    let Err(PublishError::Conflict(extent)) = refused else { panic!("{refused:?}") };
    assert_eq!(extent.last, Offset::new(2_008), "what has room is a prefix of the batch");
    let refused = log.publish(ONE, &extent.incarnation, extent.last, &plain_entries(1..=1)).await;
    assert!(matches!(refused, Err(PublishError::Full { .. })), "{refused:?}");
    assert_eq!(log.extent(ONE).await.unwrap(), extent);
    log.trim(ONE, Offset::new(3), LATER).await.unwrap();
    let published = log.publish(ONE, &extent.incarnation, extent.last, &batch[2_000..]).await.unwrap();
    assert_eq!(published, Offset::new(2_508), "the rest follows the prefix");
    let renewed = log.renew(ONE, &extent.incarnation).await.unwrap();
    assert_eq!(
        log.publish(ONE, &renewed.incarnation, renewed.last, &plain_entries(1..=10)).await.unwrap(),
        Offset::new(10)
    );
}

/// A write that is published again soon after a renewal is stored again: it is not taken for a repeat.
#[tokio::test]
async fn what_was_published_in_an_earlier_life_is_published_again_at_once() {
    let (log, ()) = empty_log().await;
    let mut life = publish(&log, ONE, 5).await;
    for _ in 0..3 {
        log.renew(ONE, &life.incarnation).await.unwrap();
        life = publish(&log, ONE, 5).await;
        assert_eq!(life.last, Offset::new(5));
        let mut reader = log.reader(ONE, &life.incarnation, Offset::START).await.unwrap();
        assert_eq!(reader.next_batch(1).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn of_many_who_renew_at_once_one_begins_the_next_life() {
    let namespace = fresh();
    let logs = [opened(&namespace, 1).await.unwrap(), opened(&namespace, 1).await.unwrap()];
    let ended = publish(&logs[0], ONE, 5).await;
    let renewals = (0..8).map(|number: usize| logs[number % 2].renew(ONE, &ended.incarnation));
    let lives = futures::future::try_join_all(renewals).await.unwrap();
    assert!(lives.iter().all(|life| *life == lives[0] && life.incarnation != ended.incarnation), "{lives:?}");
}

#[tokio::test]
async fn a_stream_that_was_deleted_is_made_again_with_another_life() {
    let namespace = fresh();
    let log = opened(&namespace, 1).await.unwrap();
    let before = publish(&log, ONE, 5).await;
    jetstream().await.delete_stream(format!("{namespace}-balance-1")).await.unwrap();
    let conflict = log.publish(ONE, &before.incarnation, before.last, &plain_entries(1..=1)).await;
    let Err(PublishError::Conflict(extent)) = conflict else { panic!("{conflict:?}") };
    assert_ne!(extent.incarnation, before.incarnation);
    assert_eq!(moved(&log, &before, 5).await, (5, extent.clone()));
    assert_eq!(
        log.publish(ONE, &extent.incarnation, extent.last, &plain_entries(1..=2)).await.unwrap(),
        Offset::new(2)
    );
}

#[tokio::test]
async fn a_stream_that_was_emptied_by_hand_begins_another_life() {
    let namespace = fresh();
    let log = opened(&namespace, 1).await.unwrap();
    let before = publish(&log, ONE, 5).await;
    stream(&namespace, ONE).await.purge().await.unwrap();
    let extent = log.extent(ONE).await.unwrap();
    assert_ne!(extent.incarnation, before.incarnation);
    assert_eq!((extent.trimmed, extent.last), (Offset::START, Offset::START));
    assert_eq!(publish(&log, ONE, 2).await.last, Offset::new(2));
}

/// Law N5
#[tokio::test]
async fn a_hole_or_a_foreign_message_ends_the_life_instead_of_being_skipped() {
    let namespace = fresh();
    let log = opened(&namespace, 1).await.unwrap();
    publish(&log, ONE, 2).await;
    publish(&log, ONE, 1).await;
    let before = publish(&log, ONE, 2).await;
    let raw = stream(&namespace, ONE).await;
    let first = raw.get_first_raw_message_by_subject(format!("{namespace}.balance.1"), 1).await.unwrap().sequence;
    assert!(raw.delete_message(first + 1).await.unwrap());
    let (reached, holed) = moved(&log, &before, 0).await;
    assert_eq!(reached, 2);
    assert_ne!(holed.incarnation, before.incarnation);

    publish(&log, ONE, 2).await;
    // A foreign message that records follow: their publisher has not looked.
    let foreign = say_hello(&namespace).await;
    repeat_behind(&namespace, foreign).await;
    let (reached, foreign) = moved(&log, &holed, 0).await;
    assert_eq!(reached, 2);
    assert_ne!(foreign.incarnation, holed.incarnation);
    assert_eq!((foreign.trimmed, foreign.last), (Offset::START, Offset::START));
}

/// Law N6: what a hole leaves unknown is kept, since it is neither below the limit nor old.
#[tokio::test]
async fn a_trim_that_comes_upon_a_hole_removes_nothing_above_its_limit() {
    let namespace = fresh();
    let log = opened(&namespace, 1).await.unwrap();
    let mut life = log.extent(ONE).await.unwrap();
    for _ in 0..16 {
        life = publish(&log, ONE, 1).await;
    }
    let raw = stream(&namespace, ONE).await;
    let first = raw.get_first_raw_message_by_subject(format!("{namespace}.balance.1"), 1).await.unwrap().sequence;
    for hole in 6..12 {
        assert!(raw.delete_message(first + hole).await.unwrap());
    }
    assert_eq!(log.trim(ONE, Offset::new(3), LATER).await.unwrap(), 3);
    assert_eq!(moved(&log, &life, 3).await.0, 6, "the records before the hole are still there");
}

/// Law N5: nothing then says where the incarnation ends.
#[tokio::test]
async fn a_life_that_ends_in_a_foreign_message_or_lost_its_last_one_is_over_for_whoever_looks() {
    let namespace = fresh();
    let log = opened(&namespace, 1).await.unwrap();
    let before = publish(&log, ONE, 2).await;
    let mut reader = log.reader(ONE, &before.incarnation, Offset::START).await.unwrap();
    say_hello(&namespace).await;
    assert_eq!(reader.next_batch(10).await.unwrap().len(), 2);
    let Err(ReadError::Moved(foreign)) = reader.next_batch(10).await else { panic!("it went on") };
    assert_ne!(foreign.incarnation, before.incarnation);
    assert_eq!(log.extent(ONE).await.unwrap(), foreign);

    let before = publish(&log, ONE, 2).await;
    let raw = stream(&namespace, ONE).await;
    assert!(raw.delete_message(raw.cached_info().state.last_sequence).await.unwrap());
    let lost = log.extent(ONE).await.unwrap();
    assert_ne!(lost.incarnation, before.incarnation);
    assert_eq!((lost.trimmed, lost.last), (Offset::START, Offset::START));
}

/// Publishes a message that is not a record; returns its sequence.
async fn say_hello(namespace: &Namespace) -> u64 {
    let (jetstream, subject) = (jetstream().await, format!("{namespace}.balance.1"));
    jetstream.publish(subject, Bytes::from_static(b"hello")).await.unwrap().await.unwrap().sequence
}

/// Publishes the message before a sequence, which holds two records, again after it, as if it held the next two.
async fn repeat_behind(namespace: &Namespace, sequence: u64) {
    let found = stream(namespace, ONE).await.get_raw_message(sequence - 1).await.unwrap();
    let mut headers = found.headers.clone();
    headers.insert("Bank-Offset", "3");
    headers.insert("Nats-Expected-Last-Sequence", sequence.to_string().as_str());
    jetstream().await.publish_with_headers(found.subject, headers, found.payload).await.unwrap().await.unwrap();
}

/// Law N4, and L4 of the port: a reader finds its place in the middle of a message, whichever one that is.
#[tokio::test]
async fn a_reader_begins_in_the_middle_of_whichever_message_holds_its_place() {
    let log = opened(&fresh(), 1).await.unwrap();
    let mut extent = log.extent(ONE).await.unwrap();
    for records in [1, 5, 2, 9, 1, 1, 30, 3] {
        extent = publish(&log, ONE, records).await;
    }
    for after in 0..extent.last.get() {
        let mut reader = log.reader(ONE, &extent.incarnation, Offset::new(after)).await.unwrap();
        let batch = reader.next_batch(2).await.unwrap();
        assert_eq!(batch[0].offset, Offset::new(after + 1));
    }
}

/// What any client of NATS finds.
#[tokio::test]
async fn a_message_has_a_json_body_and_headers_that_anybody_can_read() {
    let namespace = fresh();
    let log = opened(&namespace, 1).await.unwrap();
    publish(&log, ONE, 1).await;
    let extent = publish(&log, ONE, 2).await;
    let subject = format!("{namespace}.balance.1");
    let found = stream(&namespace, ONE).await.get_last_raw_message_by_subject(&subject).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&found.payload).unwrap();
    let write = |version| {
        serde_json::json!({
            "stream": "01010101-0101-0101-0101-010101010101",
            "first_version": version,
            "time": 0,
            "count": 1,
            "events": [{}],
        })
    };
    assert_eq!(body, serde_json::json!([write(1), write(2)]));
    let header = |headers: &HeaderMap, name: &str| headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header(&found.headers, "Bank-Incarnation"), &*extent.incarnation.0);
    assert_eq!(header(&found.headers, "Bank-Offset"), "2");
    assert_eq!(header(&found.headers, "Bank-Records"), "2");
}

/// As an earlier release made them.
#[tokio::test]
async fn a_stream_whose_messages_are_read_otherwise_is_refused() {
    let namespace = fresh();
    opened(&namespace, 1).await.unwrap();
    change(&namespace, |config| drop(config.metadata.remove("bank_format"))).await;
    let refusal = opened(&namespace, 1).await.unwrap_err();
    assert!(matches!(refusal, NatsOpenError::Foreign { .. }), "{refusal}");
    let text = refusal.to_string();
    assert!(text.contains("another format") && text.contains("delete it"), "{text}");
}

#[tokio::test]
async fn trimming_stops_in_front_of_the_first_message_that_is_too_young_or_holds_more() {
    let (log, ()) = empty_log().await;
    publish(&log, ONE, 100).await;
    let clock = Clock::system();
    let between = clock.now().plus(std::time::Duration::from_millis(1));
    while clock.now() <= between {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        publish(&log, ONE, 50).await;
    }
    assert_eq!(log.trim(ONE, Offset::new(199), between).await.unwrap(), 100);
    assert_eq!(log.trim(ONE, Offset::new(199), LATER).await.unwrap(), 50);
    assert_eq!(log.extent(ONE).await.unwrap().trimmed, Offset::new(150));
    assert_eq!(log.trim(ONE, Offset::new(250), LATER).await.unwrap(), 50, "the last message stays");
    assert_eq!(log.extent(ONE).await.unwrap().trimmed, Offset::new(200));
}
