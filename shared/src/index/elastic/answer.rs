//! The outcome of a call to Elasticsearch. The driver takes an answer of any status for a success.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use elasticsearch::Error;
use elasticsearch::http::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{BackendError, Effect};

/// The longest answer that is read, if it states its length: a page of 10,000 documents takes less than 20 MiB. A
/// longer one does not come from Elasticsearch.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How Elasticsearch says that an index does not exist.
pub(super) const INDEX_MISSING: &str = "index_not_found_exception";

/// How it says that an index or an alias does not exist.
const ABSENCES: [&str; 2] = [INDEX_MISSING, "aliases_not_found_exception"];

/// How it says that an index takes no writes.
const BLOCK: &str = "cluster_block_exception";

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Elasticsearch refused.
    #[error("{status} {kind}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The type of its exception, such as `index_not_found_exception`.
        kind: String,
        /// Its explanation; about indices, never about the content of documents.
        reason: String,
    },
    /// There is no answer, or none that can be read.
    #[error("{}", causes(.0))]
    Silent(#[source] Arc<Error>),
    /// Not every node has confirmed a change: it may take effect later.
    #[error("not acknowledged by all nodes in time")]
    Unacknowledged,
    /// A foreign index or alias is in the projection's place.
    #[error("{0}")]
    InTheWay(String),
    /// The caller that sent these lines together with its own went away before the answer.
    #[error("the request it was batched with was cancelled")]
    Forsaken,
    /// An answer that this release does not understand.
    #[error("unexpected answer: {0}")]
    Unreadable(String),
}

/// The driver's error says only that a request failed; its causes say why.
fn causes(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Failure {
    /// Whether the index or alias that was named does not exist. Only Elasticsearch can say so: a proxy that finds
    /// nobody to ask answers 404, too.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { status: 404, kind, .. } if ABSENCES.contains(&kind.as_str()))
    }

    /// Whether an existing version or entry was in the way.
    pub(super) const fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// Whether an index of this name exists already.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == "resource_already_exists_exception")
    }

    /// Whether Elasticsearch is too busy now, whatever the request. A block does not count: it may last until an
    /// operator frees disk space.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { status: 429 | 503, kind, .. } if kind != BLOCK)
    }

    /// Whether the index has a write block. A user who may not write is refused with the same status.
    pub(super) fn is_write_block(&self) -> bool {
        matches!(self, Self::Refused { status: 403, kind, .. } if kind == BLOCK)
    }

    fn silent(error: Error) -> Self {
        Self::Silent(Arc::new(error))
    }

    /// Reports only the kind of error in an answer, since its text would quote documents.
    pub(super) fn unreadable(error: &serde_json::Error) -> Self {
        Self::Unreadable(format!("{:?} error", error.classify()))
    }

    /// For the caller of a write. Only the statuses listed here are known to have had no effect.
    pub(super) fn backend(self, operation: &'static str) -> BackendError {
        match &self {
            Self::Refused { status: 429, .. } => BackendError::not_done(operation, self),
            Self::Refused { status: 400 | 401 | 403 | 405 | 406 | 413, .. } | Self::InTheWay(_) => {
                BackendError::broken(operation, self)
            }
            Self::Refused { .. } if self.is_absence() => BackendError::broken(operation, self),
            Self::Silent(error) if is_unreachable(error) => BackendError::not_done(operation, self),
            // A proxy may have answered in its place, and Elasticsearch may answer next time.
            Self::Refused { .. } | Self::Silent(_) | Self::Unacknowledged | Self::Forsaken | Self::Unreadable(_) => {
                BackendError::unknown(operation, self)
            }
        }
    }

    /// For the caller of a read, which has no effect, whatever its outcome.
    pub(super) fn of_read(self, operation: &'static str) -> BackendError {
        BackendError { effect: Effect::None, ..self.backend(operation) }
    }
}

/// Whether no connection was established, so that nothing was sent.
fn is_unreachable(error: &Error) -> bool {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}

#[derive(Deserialize)]
struct Refusal {
    error: Exception,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Exception {
    Typed {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        reason: String,
    },
    Plain(String),
}

/// The answer to a call, parsed as the expected type.
pub(super) async fn answer<T: DeserializeOwned>(sent: Result<Response, Error>) -> Result<T, Failure> {
    read(&body_of(sent).await?)
}

/// The raw answer to a call that was not refused.
pub(super) async fn body_of(sent: Result<Response, Error>) -> Result<Bytes, Failure> {
    let response = sent.map_err(Failure::silent)?;
    let status = response.status_code();
    let body = bytes_of(response).await?;
    if status.is_success() {
        return Ok(body);
    }
    let (kind, reason) = match serde_json::from_slice::<Refusal>(&body) {
        Ok(Refusal { error: Exception::Typed { kind, reason } }) => (kind, reason),
        Ok(Refusal { error: Exception::Plain(reason) }) => (String::new(), reason),
        Err(_) => (String::new(), "no explanation given".to_owned()),
    };
    Err(Failure::Refused { status: status.as_u16(), kind, reason })
}

async fn bytes_of(response: Response) -> Result<Bytes, Failure> {
    match response.content_length() {
        Some(length) if length > ANSWER_BYTES_MAX => Err(Failure::Unreadable(format!("{length} bytes"))),
        Some(_) | None => response.bytes().await.map_err(Failure::silent),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::unreadable(&error))
}

/// The answer to a request for one document, which has a body even if the document is missing.
pub(super) async fn found<T: DeserializeOwned>(sent: Result<Response, Error>) -> Result<T, Failure> {
    match sent {
        Ok(response) if response.status_code().as_u16() == 404 => read(&bytes_of(response).await?),
        sent => answer(sent).await,
    }
}

/// The answer to a call whose content does not matter.
pub(super) async fn done(sent: Result<Response, Error>) -> Result<(), Failure> {
    answer::<serde::de::IgnoredAny>(sent).await.map(|_| ())
}

/// The answer to a change of the cluster's metadata.
#[derive(Deserialize)]
pub(super) struct Acknowledgement {
    pub(super) acknowledged: bool,
    /// For a block: whether the writes in flight have ended.
    #[serde(default = "yes")]
    pub(super) shards_acknowledged: bool,
}

const fn yes() -> bool {
    true
}
