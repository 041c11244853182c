use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::ahead::Ahead;
use super::recent::Shared;
use crate::coordinate::Position;
use crate::error::BackendError;
use crate::sqlite::Database;
use crate::store::{ChangeFeed, FeedBatch, FeedEntry, FeedError};

/// How long a feed without new writes waits before it reports that it is alive.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Continues when the writer thread has committed; between commits it costs nothing. New writes are mostly in memory;
/// of older ones, the next chunk is read while the current one is handed out.
pub struct EmbeddedFeed {
    ahead: Ahead,
    recent: Shared,
    commits: watch::Receiver<u64>,
    reached: Position,
}

impl EmbeddedFeed {
    pub(super) fn open(
        database: Database,
        recent: Shared,
        chunk_max: usize,
        after: Position,
    ) -> Result<Self, FeedError> {
        // A position after the last write comes from another store, or from before an old backup was restored.
        let last = recent.read().committed().last();
        if number(&after).is_none_or(|number| number > last) {
            return Err(FeedError::Lost(after));
        }
        Ok(Self { commits: database.commits(), ahead: Ahead::new(database, chunk_max), recent, reached: after })
    }

    async fn read(&mut self, after: u64, limit: usize) -> Result<Vec<FeedEntry>, BackendError> {
        let (recent, settled) = {
            let recent = self.recent.read();
            (recent.committed().fed(after, limit), recent.committed().settled())
        };
        match recent {
            Some(entries) => Ok(entries),
            None => self.ahead.next(after, settled, limit).await,
        }
    }
}

impl ChangeFeed for EmbeddedFeed {
    async fn next_batch(&mut self, limit: usize) -> Result<FeedBatch, FeedError> {
        let after = number(&self.reached).expect("a feed starts at a position of this store and only moves to others");
        loop {
            // Marked as seen before the read, so that a commit during the read wakes the wait below.
            self.commits.mark_unchanged();
            let entries = self.read(after, limit).await?;
            if let Some(last) = entries.last() {
                self.reached = last.position.clone();
                return Ok(FeedBatch { entries, reached: self.reached.clone() });
            }
            match timeout(IDLE_MAX, self.commits.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(BackendError::broken("next_batch", "the writer thread has ended").into()),
                Err(_) => return Ok(FeedBatch { entries, reached: self.reached.clone() }),
            }
        }
    }
}

/// The number of a position; `None` if another kind of store made it.
fn number(position: &Position) -> Option<u64> {
    match position {
        Position::Start => Some(0),
        Position::Number(number) => Some(*number),
        Position::Token(_) => None,
    }
}
