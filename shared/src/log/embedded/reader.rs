//! Reads a partition of `log.db`.

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

/// How long a reader waits for news before it shows with an empty batch that it is alive.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Reads on when something is published to its partition, and costs nothing in between. New records mostly come from
/// memory; the file yields whole rows, and records beyond the limit of a call are held for the next one.
///
/// Held records may be trimmed, or their incarnation may end, before they are yielded. They are yielded all the same:
/// they follow the reader's offset without a gap in the incarnation that the reader was opened for, so nothing is
/// skipped (law L4), and published writes never become wrong, since the store has them. The next read begins after all
/// held records and checks the partition as it is then, so a trim beyond them, or another incarnation, is reported
/// before anything further is yielded.
#[derive(Debug)]
pub struct EmbeddedReader {
    database: Database,
    news: watch::Receiver<()>,
    /// The newest records, and the partition's index in them.
    newest: (Newest, usize),
    partition: Partition,
    incarnation: Incarnation,
    /// The last record that was yielded.
    after: Offset,
    /// Records after it that were read already: at most those asked for and the rest of a row.
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
        // Checks that the partition continues from here; the first record is left to the first batch.
        reader.read_file(after, 0).await?;
        Ok(reader)
    }

    /// Reads until `limit` records are held, or all there are.
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

    /// Yields held records. Nothing is awaited here, so a dropped call loses no record.
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
                // The log was dropped, so nothing more is published; the pace stays the same.
                Ok(Err(_)) => {
                    sleep_until(idle_until).await;
                    return Ok(records);
                }
                Err(_) => return Ok(records),
            }
        }
    }
}
