use std::collections::BTreeSet;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::read::{self, HEAD, stored_commit};
use crate::coordinate::Version;
use crate::id::AccountId;
use crate::partition::Slot;
use crate::store::{AppendError, Appended, Commit, StoredCommit};

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

/// Takes the commits one after the other; each sees what those before it did. An error leaves it to the transaction to
/// undo all of them.
pub(super) fn append(connection: &Connection, commits: &[Commit]) -> rusqlite::Result<Vec<Result<Appended, Conflict>>> {
    let mut appender = Appender::new(connection)?;
    commits.iter().map(|commit| appender.take(commit)).collect()
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
            insert_commit: connection
                .prepare_cached("INSERT INTO commits (id, time, key, request, receipt) VALUES (?1, ?2, ?3, ?4, ?5)")?,
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

    fn judge(&mut self, commit: &Commit) -> rusqlite::Result<Result<Appended, Conflict>> {
        if let Some(before) = self.taken_before(commit)? {
            return Ok(Ok(Appended::Before(Box::new(before))));
        }
        for write in &commit.writes {
            if self.spoiled.contains(&write.stream) || self.head(&write.stream)? != write.expected {
                return Ok(Err(Conflict { stream: write.stream, expected: write.expected }));
            }
        }
        self.insert(commit)?;
        Ok(Ok(Appended::New))
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

    fn insert(&mut self, commit: &Commit) -> rusqlite::Result<()> {
        let time = commit.time.as_micros();
        self.insert_commit.execute(params![
            commit.id.as_bytes(),
            time,
            commit.key.as_ref().map(|keyed| keyed.key.as_str()),
            commit.key.as_ref().map(|keyed| keyed.request),
            &*commit.receipt,
        ])?;
        for write in &commit.writes {
            self.last_position += 1;
            self.insert_write.execute(params![
                Slot::of(&write.stream).get(),
                write.stream.as_bytes(),
                write.expected.next().get(),
                write.events.count,
                time,
                self.last_position,
                &*write.events.json,
            ])?;
        }
        Ok(())
    }
}
