use std::collections::VecDeque;
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
/// memory; out of the file come whole rows, and what of them was not asked for is held for the next call.
///
/// What is held may be trimmed before it is yielded, or its life may end. It is yielded all the same: it follows the
/// reader's place without a gap in the life that the reader was opened for, so nothing is skipped (law L4), and what
/// was published does not become wrong, since it stands in the store. What is read next begins behind all that is held
/// and is asked of the partition as it is then; so a trim beyond that, or another life, is told before anything
/// follows.
#[derive(Debug)]
pub struct EmbeddedReader {
    database: Database,
    news: watch::Receiver<()>,
    /// What is new, and the place of the partition in it.
    newest: (Newest, usize),
    partition: Partition,
    incarnation: Incarnation,
    /// The last record that was yielded.
    after: Offset,
    /// What follows it and was read already: at most what was asked for and the rest of a row.
    held: VecDeque<Record>,
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
        let reader = Self { database, news, newest, partition, incarnation, after, held: VecDeque::new() };
        // Whether the partition continues from here; the first record stays for the first batch.
        reader.read_file(after, 0).await?;
        Ok(reader)
    }

    /// Sees to it that `limit` records are held, as far as there are so many.
    async fn hold(&mut self, limit: usize) -> Result<(), ReadError> {
        // Marked as seen before the read, so that a publish during the read ends the next wait.
        self.news.mark_unchanged();
        let wanted = limit.saturating_sub(self.held.len());
        if wanted == 0 {
            return Ok(());
        }
        let after = self.held.back().map_or(self.after, |record| record.offset);
        let (newest, place) = &self.newest;
        let records = match newest.after(*place, &self.incarnation, after, wanted) {
            Some(records) => records,
            None => self.read_file(after, wanted).await?,
        };
        self.held.extend(records);
        Ok(())
    }

    async fn read_file(&self, after: Offset, limit: usize) -> Result<Vec<Record>, ReadError> {
        let (partition, incarnation) = (self.partition, self.incarnation.clone());
        let read = move |connection: &_| file::read(connection, partition, &incarnation, after, limit);
        self.database.read("next_batch", read).await?.map_err(ReadError::Moved)
    }

    /// Yields what is held. Nothing is awaited here, so a dropped call loses no record.
    fn yielded(&mut self, limit: usize) -> Vec<Record> {
        let records: Vec<Record> = self.held.drain(..limit.min(self.held.len())).collect();
        self.after = records.last().map_or(self.after, |record| record.offset);
        records
    }
}

impl PartitionReader for EmbeddedReader {
    async fn next_batch(&mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
        let idle_until = Instant::now() + IDLE_MAX;
        loop {
            self.hold(limit).await?;
            let records = self.yielded(limit);
            if !records.is_empty() {
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
