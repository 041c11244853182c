use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::file;
use super::newest::Newest;
use crate::coordinate::Offset;
use crate::log::{Incarnation, PartitionReader, ReadError, Record};
use crate::partition::Partition;
use crate::sqlite::Database;

/// How long a reader without news waits before it says that it is alive.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Reads on when something was published to its partition; in between it costs nothing. What is new is mostly in
/// memory.
#[derive(Debug)]
pub struct EmbeddedReader {
    database: Database,
    news: watch::Receiver<()>,
    /// What is new, and the place of the partition in it.
    newest: (Newest, usize),
    partition: Partition,
    incarnation: Incarnation,
    after: Offset,
}

impl EmbeddedReader {
    pub(super) async fn open(
        database: Database,
        news: watch::Receiver<()>,
        newest: (Newest, usize),
        partition: Partition,
        incarnation: Incarnation,
        after: Offset,
    ) -> Result<Self, ReadError> {
        let reader = Self { database, news, newest, partition, incarnation, after };
        // Whether the partition continues from here; the first record stays for the first batch.
        reader.read_file(0).await?;
        Ok(reader)
    }

    async fn read(&mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
        // Marked as seen before the read, so that a publish during the read ends the next wait.
        self.news.mark_unchanged();
        let (newest, place) = &self.newest;
        match newest.after(*place, &self.incarnation, self.after, limit) {
            Some(records) => Ok(records),
            None => self.read_file(limit).await,
        }
    }

    async fn read_file(&self, limit: usize) -> Result<Vec<Record>, ReadError> {
        let (partition, incarnation, after) = (self.partition, self.incarnation.clone(), self.after);
        let read = move |connection: &_| file::read(connection, partition, &incarnation, after, limit);
        self.database.read("next_batch", read).await?.map_err(ReadError::Moved)
    }
}

impl PartitionReader for EmbeddedReader {
    async fn next_batch(&mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
        let idle_until = Instant::now() + IDLE_MAX;
        loop {
            let records = self.read(limit).await?;
            if let Some(last) = records.last() {
                self.after = last.offset;
                return Ok(records);
            }
            match timeout_at(idle_until, self.news.changed()).await {
                Ok(Ok(())) => {}
                // The log was dropped, so nobody publishes; the pace stays the same.
                Ok(Err(_)) => {
                    sleep_until(idle_until).await;
                    return Ok(records);
                }
                Err(_) => return Ok(records),
            }
        }
    }
}
