//! The streams a log needs.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use futures::{StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::connect::PAYLOAD_BYTES_MIN;
use super::failure::CALL_MAX;
use super::{Names, Shared};
use crate::error::BackendError;

/// The most messages in a partition. Each holds at least one record, so there is room for as many records as in an
/// embedded one. The limit in bytes is left to the server (`max_file_store`, or `max_bytes` of a stream), which pushes
/// back in the same way: a limit of our own would reserve the space, on machines that may not have it.
const MESSAGES_MAX: i64 = 10_000_000;

/// The shortest the server allows: messages have no ids, so there are no duplicates to recognise.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

/// How many streams are checked or created at the same time.
const STREAMS_AT_ONCE: usize = 8;

/// Where a stream notes how many partitions its log has.
const PARTITIONS: &str = "bank_partitions";

/// Where a stream notes the format of its messages, and the format that this release reads.
const FORMAT: (&str, &str) = ("bank_format", "2");

/// Why a log was not opened; nothing that existed was changed.
#[derive(Debug, thiserror::Error)]
pub enum NatsOpenError {
    /// With another number of partitions, the records of many accounts would be in the wrong place.
    #[error(
        "the stream {stream} was created for {stored} partitions, not {asked}: set --partitions {stored} \
         (BANK_PARTITIONS={stored}), or delete the streams of all partitions (nats stream rm) and start with {asked}; \
         nothing is lost, the workers read what they need from the store"
    )]
    Partitions {
        /// The stream.
        stream: String,
        /// How many partitions it was created for.
        stored: String,
        /// How many were asked for.
        asked: u16,
    },
    /// A stream has the name of a partition, but is something else.
    #[error("the stream {stream} {reason}: rename or delete it (nats stream rm), or choose another --namespace")]
    Foreign {
        /// The stream.
        stream: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The stream of a partition was changed since a bank made it, and would lose records that somebody needs.
    #[error(
        "the stream {stream} {reason}: run nats stream edit {stream} {edit}, or delete it (nats stream rm {stream}); \
         nothing is lost, the workers read what they need from the store"
    )]
    Discards {
        /// The stream.
        stream: String,
        /// What it discards.
        reason: &'static str,
        /// The option that ends it.
        edit: &'static str,
    },
    /// The server is too old.
    #[error("the NATS server at {server} is version {version}: upgrade it to 2.12 or newer")]
    TooOld {
        /// Which server.
        server: String,
        /// The version it reports.
        version: String,
    },
    /// The server has no JetStream.
    #[error(
        "the NATS server at {server} has no JetStream for this user: add a block jetstream {{ store_dir: … }} to its \
         configuration (or start it with -js), and enable JetStream for the account"
    )]
    NoJetStream {
        /// Which server.
        server: String,
    },
    /// The server takes only small messages.
    #[error(
        "the NATS server at {server} takes messages of at most {bytes} bytes, the bank needs {PAYLOAD_BYTES_MIN}: \
         raise its max_payload"
    )]
    Payload {
        /// Which server.
        server: String,
        /// How large a message may be.
        bytes: usize,
    },
    /// Not a NATS URL. It is not quoted, since it may hold a password.
    #[error("invalid NATS URL: it must be like nats://HOST:4222 or tls://HOST:4222")]
    Url,
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials (--log-credentials): {reason}")]
    Credentials {
        /// Why not.
        reason: std::io::Error,
    },
    /// The server does not answer, or refuses.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// More replicas than there are servers.
#[derive(Debug, thiserror::Error)]
#[error(
    "the NATS cluster cannot keep {0} replicas of a partition: add servers, or lower BANK_LOG_REPLICAS to their number"
)]
struct TooManyCopies(usize);

/// Checks the streams of all partitions and creates those that are missing. The first one is checked alone, so that a
/// log with another number of partitions gets no stream of ours.
pub(super) async fn streams(shared: &Shared) -> Result<(), NatsOpenError> {
    let Some((first, others)) = shared.names.split_first() else { return Ok(()) };
    take(shared, first).await?;
    futures::stream::iter(others)
        .map(|names| take(shared, names))
        .buffer_unordered(STREAMS_AT_ONCE)
        .try_collect::<()>()
        .await
}

async fn take(shared: &Shared, names: &Names) -> Result<(), NatsOpenError> {
    match shared.info("open", names).await? {
        Some(info) => check(shared, names, &info),
        None => Ok(create(shared, names).await?),
    }
}

fn check(shared: &Shared, names: &Names, info: &Info) -> Result<(), NatsOpenError> {
    let (stored, wanted) = (&info.config, config(shared, names));
    let foreign = |reason| Err(NatsOpenError::Foreign { stream: names.stream.clone(), reason });
    let Some(partitions) = stored.metadata.get(PARTITIONS) else { return foreign("was not created by a bank") };
    let asked = shared.partitions.partitions();
    if *partitions != asked.to_string() {
        return Err(NatsOpenError::Partitions { stream: names.stream.clone(), stored: partitions.clone(), asked });
    }
    if stored.metadata.get(FORMAT.0).is_none_or(|format| format != FORMAT.1) {
        return foreign("holds messages of another format, from another release of the bank");
    }
    if stored.subjects != wanted.subjects {
        return foreign("does not have the subjects of a partition");
    }
    if stored.discard != wanted.discard || stored.retention != wanted.retention {
        return foreign("deletes records by itself");
    }
    if stored.storage != wanted.storage {
        return foreign("is not stored in files");
    }
    match discarding(stored) {
        Some((reason, edit)) => Err(NatsOpenError::Discards { stream: names.stream.clone(), reason, edit }),
        None => Ok(()),
    }
}

/// Which messages the server discards by itself although it refuses new ones at the limits of the stream, and the
/// option that ends it.
fn discarding(stored: &Config) -> Option<(&'static str, &'static str)> {
    if !stored.max_age.is_zero() {
        Some(("discards records by their age", "--max-age=0s"))
    } else if stored.max_messages_per_subject > 0 && !stored.discard_new_per_subject {
        Some(("discards the oldest records of a full partition", "--discard-per-subject"))
    } else {
        None
    }
}

/// Creates the stream of a partition; harmless if another process does so at the same time.
pub(super) async fn create(shared: &Shared, names: &Names) -> Result<(), BackendError> {
    let config = config(shared, names);
    let replicas = config.num_replicas;
    let error = match timeout(CALL_MAX, shared.jetstream.create_stream(config)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
        Err(elapsed) => return Err(BackendError::unknown("create stream", elapsed)),
    };
    match refusal(&error.kind()) {
        Some(ErrorCode::STREAM_NAME_EXIST) => Ok(()),
        Some(ErrorCode::CLUSTER_NO_PEERS | ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED) => {
            Err(BackendError::broken("create stream", TooManyCopies(replicas)))
        }
        Some(_) | None => Err(BackendError::unknown("create stream", error)),
    }
}

fn refusal(kind: &CreateStreamErrorKind) -> Option<ErrorCode> {
    if let CreateStreamErrorKind::JetStream(error) = kind { Some(error.error_code()) } else { None }
}

fn config(shared: &Shared, names: &Names) -> Config {
    Config {
        name: names.stream.clone(),
        description: Some("records of one partition of a bank".to_owned()),
        subjects: vec![names.records.clone(), names.beginnings.clone()],
        storage: StorageType::File,
        num_replicas: shared.replicas.into(),
        retention: RetentionPolicy::Limits,
        // Per subject, so that an incarnation can begin in a full partition.
        max_messages_per_subject: MESSAGES_MAX,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        duplicate_window: DUPLICATE_WINDOW,
        metadata: HashMap::from([
            (PARTITIONS.to_owned(), shared.partitions.partitions().to_string()),
            (FORMAT.0.to_owned(), FORMAT.1.to_owned()),
        ]),
        ..Config::default()
    }
}
