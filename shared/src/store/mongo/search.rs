//! How long a feed waits for an answer of the server.
//!
//! When a change stream is opened, the server reads its oplog from the feed's position on, and answers when it has a
//! batch or is at the end. It tells nothing on the way, and keeps nothing of it for the next attempt. An entry takes
//! about 2 µs, one of another database too. So five million of them, written while the bank was quiet or no forwarder
//! ran, take longer than a call may, and a feed that gave up would begin at the same position again, for ever.
//!
//! Therefore the server is asked about a request that it has not answered within [`CALL_MAX`]: each one bears the name
//! of its feed, and a server lists what it is at work on. While the request is listed, the feed waits on. That a server
//! answers something else would not do: the request may have gone to a former primary, or over a connection that died.
//!
//! A search that takes longer than [`SEARCH_MAX`] counts as a lost position. A failure would not do: the feed would be
//! opened again, and the same search would begin again, until the oplog has rolled over. A forwarder that has lost its
//! position goes on at the head, and the workers compare their documents with the store. That is right in any case, and
//! cheap in this one: the server answers as soon as it has found one batch, so few of the entries are the bank's.
//!
//! The driver sets no limit of its own: it has none for a socket, and `maxTimeMS` of a `getMore` is how long the server
//! waits at the end of the oplog, not how long it reads. If the whole server falls silent, the driver's monitor fails
//! the request.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::doc;
use mongodb::bson::oid::ObjectId;
use mongodb::error::Error;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::failure::{CALL_MAX, read};
use super::feed::FEED;
use super::operations::operations;
use crate::error::BackendError;

/// How long the server may be at work on one request. An oplog should reach back a day: with 5,000 entries a second it
/// has 430 million of them, which are read in about this time. If a request takes longer, its position counts as lost.
pub(super) const SEARCH_MAX: Duration = Duration::from_mins(15);

/// A name for the requests of one feed, unlike any other.
pub(super) fn new_name() -> Arc<str> {
    format!("feed {}", ObjectId::new()).into()
}

/// The wait for one answer. Calls that wait for it may be dropped; it goes on in the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    since: Instant,
    /// When the server is asked about the request.
    ask_at: Instant,
}

impl Wait {
    pub(super) fn begun() -> Self {
        let since = Instant::now();
        Self { since, ask_at: since + CALL_MAX }
    }

    /// Ends when the answer is overdue: with the rest of the wait if the server is still at work on the request of this
    /// name, without one if it has been for longer than `limit`, and with a failure if it is not, or does not say so.
    pub(super) async fn overdue(
        self,
        client: Client,
        name: Arc<str>,
        limit: Duration,
    ) -> Result<Option<Self>, BackendError> {
        sleep_until(self.ask_at).await;
        let listed = read(FEED, Box::pin(is_listed(&client, &name))).await;
        let waited_s = self.since.elapsed().as_secs();
        let reason = match listed {
            Ok(true) if waited_s < limit.as_secs() => {
                info!(waited_s, "waiting for the server, which still looks for what follows the feed's position");
                return Ok(Some(Self { ask_at: Instant::now() + CALL_MAX, ..self }));
            }
            Ok(true) => {
                warn!(waited_s, "the server has looked for what follows the feed's position for too long");
                return Ok(None);
            }
            Ok(false) => "the server is not at work on it".to_owned(),
            Err(failure) => format!("asked about it, the server failed: {}", failure.source),
        };
        Err(BackendError::not_done(FEED, format!("no answer for {waited_s} s: {reason}")))
    }
}

/// Whether the primary lists a request of this name among those it is at work on.
async fn is_listed(client: &Client, name: &str) -> Result<bool, Error> {
    let found = operations(client, doc! { "command.comment": name }, doc! { "opid": 1 }).await?;
    Ok(!found.is_empty())
}
