//! MongoDB: inserts, the sorted scan of a replay, and the change stream of the forwarder.

use anyhow::{Context, ensure};
use futures::StreamExt;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, Timestamp as ClusterTime, Uuid, doc};
use mongodb::options::Acknowledgment;
use mongodb::options::{ClientOptions, ClusteredIndex, ReadConcern, Tls, WriteConcern};
use mongodb::raw_batch_cursor::RawBatchCursor;
use mongodb::{Client, Collection, Database};
use serde::Serialize;
use shared::config::{BackendSettings, ServerUrl};
use shared::partition::Slot;
use tokio::time::{Duration, Instant};

use super::super::super::report::{Report, per_second};
use super::written::{Deposit, Deposits};
use super::{Run, removed_behind, together, within};

/// How many documents an insert has, and how many inserts are in flight at once.
const DOCUMENTS_PER_INSERT: usize = 1_000;
const INSERTS_AT_ONCE: usize = 8;

/// How many inserts of one document are in flight at once, each on a connection of its own.
const SINGLES_AT_ONCE: usize = 128;

/// How many accounts each writer has: ten thousand together.
const ACCOUNTS_PER_WRITER: usize = 1_250;

const BATCHED: &str = "batched";
const SINGLE: &str = "single";

/// A write as the store holds it.
#[derive(Serialize)]
struct EventDocument {
    #[serde(rename = "_id")]
    place: Binary,
    stream: Uuid,
    version: i64,
    count: i64,
    time: i64,
    events: String,
}

impl EventDocument {
    fn of(deposit: &Deposit) -> anyhow::Result<Self> {
        let Deposit { account, version, time, events } = deposit;
        let slot = Slot::of(account).get().to_be_bytes();
        let place = [&slot[..], account.as_bytes(), &version.get().to_be_bytes()].concat();
        Ok(Self {
            place: Binary { subtype: BinarySubtype::Generic, bytes: place },
            stream: Uuid::from_bytes(*account.as_bytes()),
            version: version.get().try_into()?,
            count: events.count.into(),
            time: time.as_micros(),
            events: std::str::from_utf8(&events.json)?.to_owned(),
        })
    }
}

pub(super) async fn measure(
    url: &ServerUrl,
    backends: &BackendSettings,
    run: &Run,
    report: &mut Report,
) -> anyhow::Result<()> {
    let database = connect(url, backends).await?.database(&run.name);
    removed_behind(Box::pin(limits(&database, run, report)), async { within(database.drop()).await }).await
}

async fn connect(url: &ServerUrl, backends: &BackendSettings) -> anyhow::Result<Client> {
    let mut options = ClientOptions::parse(url.as_str()).await?;
    options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
    options.read_concern = Some(ReadConcern::majority());
    options.max_pool_size = Some(u32::try_from(SINGLES_AT_ONCE + INSERTS_AT_ONCE)?);
    if let (Some(authorities), Some(Tls::Enabled(tls))) = (&backends.tls_ca, &mut options.tls) {
        tls.ca_file_path.get_or_insert_with(|| authorities.path().to_owned());
    }
    Ok(Client::with_options(options)?)
}

async fn limits(database: &Database, run: &Run, report: &mut Report) -> anyhow::Result<()> {
    for name in [BATCHED, SINGLE] {
        within(database.create_collection(name).clustered_index(ClusteredIndex::default())).await?;
    }
    let before = moment(database).await?;
    let batched = (0..INSERTS_AT_ONCE).map(|_| {
        let deposits = Deposits::new(ACCOUNTS_PER_WRITER, &run.clock, &run.ids);
        insert_batches(database.collection(BATCHED), deposits, run.duration)
    });
    report.figures.insert("mongodb_batched_inserts_per_second", together(batched).await?);
    let read = read_changes(database, before, run.duration).await?;
    report.figures.insert("mongodb_changes_per_second", read);
    let scanned = scan(database, run.duration).await?;
    report.figures.insert("mongodb_scanned_per_second", scanned);
    let single = (0..SINGLES_AT_ONCE).map(|_| {
        let deposits = Deposits::new(1, &run.clock, &run.ids);
        insert_singles(database.collection(SINGLE), deposits, run.duration)
    });
    report.figures.insert("mongodb_single_inserts_per_second", together(single).await?);
    Ok(())
}

/// The cluster time before anything is written.
async fn moment(database: &Database) -> anyhow::Result<ClusterTime> {
    let hello = within(database.run_command(doc! { "hello": 1 })).await?;
    hello.get_timestamp("operationTime").context("MongoDB must run as a replica set")
}

async fn insert_batches(
    events: Collection<EventDocument>,
    mut deposits: Deposits,
    duration: Duration,
) -> anyhow::Result<u64> {
    let (began, mut written) = (Instant::now(), 0);
    while began.elapsed() < duration {
        let batch: Vec<_> =
            (0..DOCUMENTS_PER_INSERT).map(|_| EventDocument::of(&deposits.next())).collect::<Result<_, _>>()?;
        within(events.insert_many(batch).ordered(false)).await?;
        written += DOCUMENTS_PER_INSERT as u64;
    }
    Ok(written)
}

async fn insert_singles(
    events: Collection<EventDocument>,
    mut deposits: Deposits,
    duration: Duration,
) -> anyhow::Result<u64> {
    let (began, mut written) = (Instant::now(), 0);
    while began.elapsed() < duration {
        within(events.insert_one(EventDocument::of(&deposits.next())?)).await?;
        written += 1;
    }
    Ok(written)
}

/// How many changes of a backlog arrive per second, undecoded.
async fn read_changes(database: &Database, after: ClusterTime, duration: Duration) -> anyhow::Result<f64> {
    let events = database.collection::<Document>(BATCHED);
    let written = within(events.estimated_document_count()).await?;
    let changes = events.aggregate([
        doc! { "$changeStream": { "startAtOperationTime": after } },
        doc! { "$match": { "operationType": "insert" } },
        doc! { "$project": { "fullDocument": 1 } },
    ]);
    read(within(changes.batch()).await?, written, duration).await
}

/// How many documents arrive per second, sorted and undecoded.
async fn scan(database: &Database, duration: Duration) -> anyhow::Result<f64> {
    let events = database.collection::<Document>(BATCHED);
    let written = within(events.estimated_document_count()).await?;
    let sorted = events.find(doc! {}).sort(doc! { "_id": 1 });
    read(within(sorted.batch()).await?, written, duration).await
}

/// Reads until it has this many documents, or for this long.
async fn read(mut batches: RawBatchCursor, documents: u64, duration: Duration) -> anyhow::Result<f64> {
    let (began, mut count) = (Instant::now(), 0);
    while count < documents && began.elapsed() < duration {
        let Some(batch) = within(async { batches.next().await.transpose() }).await? else { break };
        count += batch.doc_slices()?.into_iter().count() as u64;
    }
    ensure!(count > 0, "none of the written documents can be read");
    Ok(per_second(count, began.elapsed()))
}
