use std::collections::BTreeSet;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::read::{self, HEAD, stored_commit};
use crate::coordinate::{Position, Version};
use crate::event::Recorded;
use crate::id::AccountId;
use crate::partition::Slot;
use crate::store::{AppendError, Appended, Commit, FeedEntry, StoredCommit};

/// A stream that is not where the writer believes it to be.
pub(super) struct Conflict {
    stream: AccountId,
    expected: Version,
}

impl From<Conflict> for AppendError {
    fn from(Conflict { stream, expected }: Conflict) -> Self {
        Self::Conflict { stream, expected }
    }
}

/// What became of a batch.
pub(super) struct Batch {
    /// One for each commit.
    pub(super) fates: Vec<Result<Appended, Conflict>>,
    /// The position before the first write of the batch.
    before: u64,
}

/// Takes the commits one after the other; each sees what those before it did. An error leaves it to the transaction to
/// undo all of them.
pub(super) fn append(connection: &Connection, commits: &[Commit]) -> rusqlite::Result<Batch> {
    let mut appender = Appender::new(connection)?;
    let before = appender.last_position;
    let fates = commits.iter().map(|commit| appender.take(commit)).collect::<rusqlite::Result<_>>()?;
    Ok(Batch { fates, before })
}

impl Batch {
    /// The position of the first write, and all writes as the feed yields them.
    pub(super) fn fed(&self, commits: &[Commit]) -> (u64, Vec<FeedEntry>) {
        let taken = commits.iter().zip(&self.fates).filter(|(_, fate)| matches!(fate, Ok(Appended::New)));
        let writes = taken.flat_map(|(commit, _)| commit.writes.iter().map(move |write| (commit.time, write)));
        let first = self.before + 1;
        let entries = (first..).zip(writes).map(|(position, (time, write))| FeedEntry {
            position: Position::Number(position),
            recorded: Recorded {
                stream: write.stream,
                first_version: write.expected.next(),
                time,
                events: write.events.clone(),
            },
        });
        (first, entries.collect())
    }
}

struct Appender<'c> {
    find_commit: CachedStatement<'c>,
    find_key: CachedStatement<'c>,
    find_head: CachedStatement<'c>,
    insert_commit: CachedStatement<'c>,
    insert_write: CachedStatement<'c>,
    last_position: u64,
    /// The streams of this batch's commits that wrote nothing: what comes behind was decided on what did not happen.
    spoiled: BTreeSet<AccountId>,
}

impl<'c> Appender<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            find_commit: connection.prepare_cached(read::COMMIT_BY_ID)?,
            find_key: connection.prepare_cached(read::COMMIT_BY_KEY)?,
            find_head: connection.prepare_cached(HEAD)?,
            insert_commit: connection.prepare_cached(
                "INSERT INTO commits (id, time, key, request, receipt) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING",
            )?,
            insert_write: connection.prepare_cached(
                "INSERT INTO writes (slot, stream, first_version, count, time, position, events)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            last_position: read::last_position(connection)?,
            spoiled: BTreeSet::new(),
        })
    }

    fn take(&mut self, commit: &Commit) -> rusqlite::Result<Result<Appended, Conflict>> {
        let fate = self.judge(commit)?;
        let holds = match &fate {
            Ok(Appended::New) => true,
            Ok(Appended::Before(before)) => before.id == commit.id,
            Err(_) => false,
        };
        if !holds {
            self.spoiled.extend(commit.writes.iter().map(|write| write.stream));
        }
        Ok(fate)
    }

    /// What is usual costs least: one look at each stream's head, and a row that its keys keep out when the id or the
    /// idempotency key was taken before. Only then, or when a head has moved, it is looked up what was there.
    fn judge(&mut self, commit: &Commit) -> rusqlite::Result<Result<Appended, Conflict>> {
        let conflict = self.conflict(commit)?;
        if conflict.is_none() && self.insert_commit(commit)? {
            self.insert_writes(commit)?;
            return Ok(Ok(Appended::New));
        }
        match (self.taken_before(commit)?, conflict) {
            (Some(before), _) => Ok(Ok(Appended::Before(Box::new(before)))),
            (None, Some(conflict)) => Ok(Err(conflict)),
            (None, None) => Err(rusqlite::Error::QueryReturnedNoRows),
        }
    }

    fn conflict(&mut self, commit: &Commit) -> rusqlite::Result<Option<Conflict>> {
        for write in &commit.writes {
            if self.spoiled.contains(&write.stream) || self.head(&write.stream)? != write.expected {
                return Ok(Some(Conflict { stream: write.stream, expected: write.expected }));
            }
        }
        Ok(None)
    }

    fn taken_before(&mut self, commit: &Commit) -> rusqlite::Result<Option<StoredCommit>> {
        let by_id = self.find_commit.query_row([commit.id.as_bytes()], stored_commit).optional()?;
        match (by_id, &commit.key) {
            (None, Some(keyed)) => self.find_key.query_row([keyed.key.as_str()], stored_commit).optional(),
            (by_id, _) => Ok(by_id),
        }
    }

    fn head(&mut self, stream: &AccountId) -> rusqlite::Result<Version> {
        let head = self.find_head.query_row(params![Slot::of(stream).get(), stream.as_bytes()], |row| row.get(0));
        Ok(head.optional()?.map_or(Version::EMPTY, Version::new))
    }

    /// Whether the commit is new; nothing is written if its id or key was taken before.
    fn insert_commit(&mut self, commit: &Commit) -> rusqlite::Result<bool> {
        let inserted = self.insert_commit.execute(params![
            commit.id.as_bytes(),
            commit.time.as_micros(),
            commit.key.as_ref().map(|keyed| keyed.key.as_str()),
            commit.key.as_ref().map(|keyed| keyed.request),
            &*commit.receipt,
        ])?;
        Ok(inserted > 0)
    }

    fn insert_writes(&mut self, commit: &Commit) -> rusqlite::Result<()> {
        for write in &commit.writes {
            self.last_position += 1;
            self.insert_write.execute(params![
                Slot::of(&write.stream).get(),
                write.stream.as_bytes(),
                write.expected.next().get(),
                write.events.count,
                commit.time.as_micros(),
                self.last_position,
                &*write.events.json,
            ])?;
        }
        Ok(())
    }
}
