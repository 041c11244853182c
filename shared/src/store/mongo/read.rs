//! Reads of streams, heads, commits and pages.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{Binary, Document, RawBsonRef, RawDocument, doc};
use mongodb::raw_batch_cursor::RawBatch;

use super::MongoStore;
use super::document::{Damaged, head, head_fields, recorded, stored, stored_fields};
use super::failure::{read, without_effect};
use super::schema::{EVENTS, place, slot_start, uuid};
use crate::coordinate::Version;
use crate::error::BackendError;
use crate::event::{Recorded, StreamAfter};
use crate::id::{AccountId, CommitId};
use crate::partition::SlotRange;
use crate::store::{IdempotencyKey, ScanPage, StoredCommit};

/// How many streams one query asks for: a look-up for each, in one round trip.
const STREAMS_A_QUERY: usize = 64;

/// How many queries of one call are in flight at once.
const QUERIES_AT_ONCE: usize = 4;

/// How many writes of one stream are read before its end is looked up: reading them costs about as much as the look-up
/// and a new query.
const LEAP_AFTER: u32 = 1_000;

/// How many documents a page asks for at most, whatever the caller's limit.
const PAGE_MAX: usize = 10_000;

impl MongoStore {
    /// The last versions of streams; empty streams are left out.
    pub(super) async fn read_heads(&self, streams: &[AccountId]) -> Result<BTreeMap<AccountId, Version>, BackendError> {
        let seek = |stream: &AccountId| {
            let mut stages = within(place(stream, Version::EMPTY), place(stream, Version::MAX), -1, 1);
            stages.push(doc! { "$project": head_fields() });
            stages
        };
        let mut heads = BTreeMap::new();
        for (stream, last) in self.unite("read_heads", streams, seek, head).await? {
            self.ends.insert(stream, last);
            heads.insert(stream, last);
        }
        Ok(heads)
    }

    pub(super) async fn read_on(
        &self,
        questions: &[StreamAfter],
        limit_each: usize,
    ) -> Result<Vec<Vec<Recorded>>, BackendError> {
        let asked = each_stream_once(questions);
        // Every write has at least one event.
        let limit = i64::try_from(limit_each).unwrap_or(i64::MAX).max(1);
        let read_on = |asked: &StreamAfter| {
            within(place(&asked.stream, asked.after), place(&asked.stream, Version::MAX), 1, limit)
        };
        let mut found: BTreeMap<AccountId, Vec<Recorded>> = BTreeMap::new();
        for recorded in self.unite("read_streams", &asked, read_on, recorded).await? {
            found.entry(recorded.stream).or_default().push(recorded);
        }
        for (stream, records) in &found {
            if let Some(last) = records.last() {
                self.note_end(*stream, last.last_version());
            }
        }
        let answer = |question: &StreamAfter| {
            found.get(&question.stream).map(|records| behind(records, question.after, limit_each)).unwrap_or_default()
        };
        Ok(questions.iter().map(answer).collect())
    }

    /// Remembers an end, unless a later one is known: who reads the past of a stream must not cost its next append a
    /// look-up.
    fn note_end(&self, stream: AccountId, end: Version) {
        if self.ends.get(&stream).is_none_or(|known| known < end) {
            self.ends.insert(stream, end);
        }
    }

    pub(super) async fn commits_by_id(
        &self,
        ids: &[CommitId],
    ) -> Result<BTreeMap<CommitId, StoredCommit>, BackendError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ids: Vec<_> = ids.iter().map(|id| uuid(*id)).collect();
        let found = self.find_stored("find_commits", doc! { "commit": { "$in": ids } }).await?;
        Ok(found.into_iter().map(|stored| (stored.id, stored)).collect())
    }

    pub(super) async fn commits_by_key(
        &self,
        keys: &[IdempotencyKey],
    ) -> Result<BTreeMap<IdempotencyKey, StoredCommit>, BackendError> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys: Vec<&str> = keys.iter().map(IdempotencyKey::as_str).collect();
        let found = self.find_stored("find_keys", doc! { "key": { "$in": keys } }).await?;
        let by_key = |stored: StoredCommit| Some((stored.key.as_ref()?.key.clone(), stored));
        Ok(found.into_iter().filter_map(by_key).collect())
    }

    async fn find_stored(&self, operation: &'static str, filter: Document) -> Result<Vec<StoredCommit>, BackendError> {
        let found = async {
            let find = self.events.find(filter).projection(stored_fields());
            find.batch().await?.try_collect::<Vec<RawBatch>>().await
        };
        decoded(operation, &read(operation, Box::pin(found)).await?, stored)
    }

    pub(super) async fn scan_page(
        &self,
        slots: SlotRange,
        after: Option<StreamAfter>,
        limit: usize,
    ) -> Result<ScanPage, BackendError> {
        let begin = after.map_or_else(|| slot_start(slots.start), |after| place(&after.stream, after.after));
        let asked = limit.clamp(1, PAGE_MAX);
        let page = async {
            let filter = doc! { "_id": { "$gt": begin, "$lt": slot_start(slots.end) } };
            let size = u32::try_from(asked).unwrap_or(u32::MAX);
            let find = self.events.find(filter).sort(doc! { "_id": 1 }).limit(size.into()).batch_size(size);
            find.batch().await?.try_collect::<Vec<RawBatch>>().await
        };
        let found = decoded("scan", &read("scan", Box::pin(page)).await?, recorded)?;
        let is_last = found.len() < asked;
        let (mut records, mut events) = (Vec::with_capacity(found.len()), 0);
        for recorded in found {
            if events >= limit {
                let next = records.last().map(reached);
                return Ok(ScanPage { records, next });
            }
            events += recorded.events.count as usize;
            records.push(recorded);
        }
        let next = if is_last { None } else { records.last().map(reached) };
        Ok(ScanPage { records, next })
    }

    /// Reads the heads of the writes in order, and leaps over the rest of a long stream.
    pub(super) async fn heads_page(
        &self,
        slots: SlotRange,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, Version)>, BackendError> {
        let mut begin = after.map_or_else(|| slot_start(slots.start), |after| place(&after, Version::MAX));
        let mut heads = Vec::new();
        while let Some(long) = self.heads_on(begin, slot_start(slots.end), limit, &mut heads).await? {
            if let Some(last) = self.read_heads(&[long]).await?.remove(&long) {
                heads.pop();
                heads.push((long, last));
            }
            begin = place(&long, Version::MAX);
        }
        Ok(heads)
    }

    /// Adds heads until the range ends, the page is full, or a stream turns out to be long; returns that stream.
    async fn heads_on(
        &self,
        begin: Binary,
        end: Binary,
        limit: usize,
        heads: &mut Vec<(AccountId, Version)>,
    ) -> Result<Option<AccountId>, BackendError> {
        let find = self.events.find(doc! { "_id": { "$gt": begin, "$lt": end } }).projection(head_fields());
        let find = find.sort(doc! { "_id": 1 }).batch_size(LEAP_AFTER);
        let mut cursor = read("heads", Box::pin(find.batch())).await?;
        let mut writes_of_stream = 0;
        while let Some(batch) = read("heads", cursor.try_next()).await? {
            for (stream, last) in decoded("heads", [&batch], head)? {
                let is_full = heads.len() == limit;
                match heads.last_mut() {
                    Some((current, head)) if *current == stream => {
                        *head = last;
                        writes_of_stream += 1;
                        if writes_of_stream >= LEAP_AFTER {
                            return Ok(Some(stream));
                        }
                    }
                    Some(_) | None if is_full => return Ok(None),
                    Some(_) | None => {
                        heads.push((stream, last));
                        writes_of_stream = 1;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Asks for each item with its own look-up, many of them in one round trip. One filter with many ranges would not
    /// do: it reads a clustered collection from the first range to the last.
    async fn unite<Q: Sync, T>(
        &self,
        operation: &'static str,
        items: &[Q],
        stages: impl Fn(&Q) -> Vec<Document>,
        decode: impl Fn(&RawDocument) -> Result<T, Damaged>,
    ) -> Result<Vec<T>, BackendError> {
        let pipelines: Vec<Vec<Document>> = items.chunks(STREAMS_A_QUERY).map(|chunk| union(chunk, &stages)).collect();
        let ask = |pipeline: Vec<Document>| async move {
            let found = async { self.events.aggregate(pipeline).batch().await?.try_collect::<Vec<RawBatch>>().await };
            read(operation, Box::pin(found)).await
        };
        let answers: Vec<Vec<RawBatch>> =
            stream::iter(pipelines).map(ask).buffered(QUERIES_AT_ONCE).try_collect().await?;
        decoded(operation, answers.iter().flatten(), decode)
    }
}

/// Each stream once, after the lowest version that it is asked for: the results of one query are told apart by stream.
fn each_stream_once(questions: &[StreamAfter]) -> Vec<StreamAfter> {
    let mut lowest: BTreeMap<AccountId, Version> = BTreeMap::new();
    for question in questions {
        let after = lowest.entry(question.stream).or_insert(question.after);
        *after = question.after.min(*after);
    }
    lowest.into_iter().map(|(stream, after)| StreamAfter { stream, after }).collect()
}

/// The first records after a version, until they hold this many events.
fn behind(records: &[Recorded], after: Version, events_max: usize) -> Vec<Recorded> {
    let mut events = 0;
    let behind = records.iter().filter(|record| record.first_version > after);
    behind
        .take_while(|record| {
            let goes_on = events < events_max;
            events += record.events.count as usize;
            goes_on
        })
        .cloned()
        .collect()
}

/// Decodes the documents in the batches of an answer, each in place.
fn decoded<'b, T>(
    operation: &'static str,
    batches: impl IntoIterator<Item = &'b RawBatch>,
    decode: impl Fn(&RawDocument) -> Result<T, Damaged>,
) -> Result<Vec<T>, BackendError> {
    let mut items = Vec::new();
    for batch in batches {
        for document in batch.doc_slices().map_err(|error| without_effect(operation, error))? {
            let document = document.ok().and_then(RawBsonRef::as_document);
            let document = document.ok_or_else(|| broken(operation, Damaged("batch")))?;
            items.push(decode(document).map_err(|damaged| broken(operation, damaged))?);
        }
    }
    Ok(items)
}

/// The pipelines of all items as one: the first, and each of the others united with it.
fn union<Q>(items: &[Q], stages: impl Fn(&Q) -> Vec<Document>) -> Vec<Document> {
    let mut pipelines = items.iter().map(stages);
    let mut united = pipelines.next().unwrap_or_default();
    united.extend(pipelines.map(|pipeline| doc! { "$unionWith": { "coll": EVENTS, "pipeline": pipeline } }));
    united
}

/// The documents of one stream after a place.
fn within(begin: Binary, end: Binary, direction: i32, limit: i64) -> Vec<Document> {
    vec![
        doc! { "$match": { "_id": { "$gt": begin, "$lte": end } } },
        doc! { "$sort": { "_id": direction } },
        doc! { "$limit": limit },
    ]
}

fn reached(record: &Recorded) -> StreamAfter {
    StreamAfter { stream: record.stream, after: record.last_version() }
}

pub(super) fn broken(operation: &'static str, damaged: Damaged) -> BackendError {
    BackendError::broken(operation, damaged)
}
