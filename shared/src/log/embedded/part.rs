//! A row of the file: some records that were published together.

use bytes::Bytes;
use rusqlite::Error;
use rusqlite::types::Type;

use crate::coordinate::Offset;
use crate::log::Record;
use crate::log::body::{self, BodyError};
use crate::store::FeedEntry;

/// A part of a batch as stored in a row.
#[derive(Debug)]
pub(super) struct Part {
    /// How many records it holds; at least one.
    pub(super) count: u64,
    pub(super) body: Bytes,
}

/// What an operator does about a damaged file.
const WAY_OUT: &str =
    "stop the bank and delete log.db*; nothing is lost, the workers read what they need from the store";

/// Why the records after an offset cannot be read although the partition holds them.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error("log.db is damaged, the record after {0} is missing: {WAY_OUT}")]
    Missing(Offset),
    #[error("log.db is damaged, the records {first} to {last} cannot be read ({source}): {WAY_OUT}")]
    Body { first: Offset, last: Offset, source: BodyError },
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::FromSqlConversionFailure(BODY, Type::Blob, Box::new(damage))
    }
}

/// The column of the body in queries for rows.
pub(super) const BODY: usize = 2;

impl Part {
    /// The parts of a batch.
    pub(super) fn all_of(batch: &[FeedEntry]) -> Vec<Self> {
        body::parts(batch).map(|writes| Self { count: writes.len() as u64, body: body::write(writes) }).collect()
    }

    /// The records after an offset, if this part, whose last offset is `last`, holds the next one.
    pub(super) fn behind(&self, after: Offset, last: Offset) -> Result<impl Iterator<Item = Record>, Damage> {
        let first = (last.get() + 1).checked_sub(self.count).filter(|first| (1..=after.next().get()).contains(first));
        let first = first.ok_or(Damage::Missing(after))?;
        let writes = body::read(&self.body, self.count).map_err(|source| Damage::Body {
            first: Offset::new(first),
            last,
            source,
        })?;
        let records = (first..).zip(writes).map(|(offset, recorded)| Record { offset: Offset::new(offset), recorded });
        Ok(records.skip_while(move |record| record.offset <= after))
    }
}
