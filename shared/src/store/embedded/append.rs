use std::collections::BTreeSet;

use rusqlite::{CachedStatement, Connection, Error, OptionalExtension, ffi, params};

use super::read::{self, HEAD, stored_commit};
use super::recent::{Recent, Row, Shared};
use crate::coordinate::Version;
use crate::event::Recorded;
use crate::id::AccountId;
use crate::partition::Slot;
use crate::store::{AppendError, Appended, Commit, KeyedRequest, StoredCommit};

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
    /// The position of its last write.
    pub(super) last: u64,
}

/// Takes the commits one after the other; each sees what those before it did. An error leaves it to the transaction to
/// undo all of them in the file, and to the next append to take back what stands in memory (law G3).
pub(super) fn append(
    connection: &Connection,
    shared: &Shared,
    rows_max: u64,
    commits: &[Commit],
) -> rusqlite::Result<Batch> {
    let before = read::last_position(connection)?;
    let fates = judge(connection, &mut shared.write(), before, rows_max, commits)?;
    let taken = commits.iter().zip(&fates).filter(|(_, fate)| matches!(fate, Ok(Appended::New)));
    let last = insert(connection, before, taken.map(|(commit, _)| commit))?;
    Ok(Batch { fates, last })
}

fn judge(
    connection: &Connection,
    recent: &mut Recent,
    before: u64,
    rows_max: u64,
    commits: &[Commit],
) -> rusqlite::Result<Vec<Result<Appended, Conflict>>> {
    recent.take_back_behind(before);
    if recent.last() != before {
        return Err(refused(ffi::SQLITE_CORRUPT, "the file is not where memory believes it to be"));
    }
    if recent.all().len() >= rows_max {
        return Err(refused(ffi::SQLITE_FULL, "what was appended lately could not be sorted in for too long"));
    }
    let mut judge = Judge::new(connection, recent)?;
    commits.iter().map(|commit| judge.take(commit)).collect()
}

fn refused(code: i32, reason: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), Some(reason.to_owned()))
}

/// Looks into memory first, and into the sorted tables for what memory cannot know.
struct Judge<'c> {
    find_commit: CachedStatement<'c>,
    find_key: CachedStatement<'c>,
    find_head: CachedStatement<'c>,
    recent: &'c mut Recent,
    /// The streams of this batch's commits that wrote nothing: what comes behind was decided on what did not happen.
    spoiled: BTreeSet<AccountId>,
}

impl<'c> Judge<'c> {
    fn new(connection: &'c Connection, recent: &'c mut Recent) -> rusqlite::Result<Self> {
        Ok(Self {
            find_commit: connection.prepare_cached(read::COMMIT_BY_ID)?,
            find_key: connection.prepare_cached(read::COMMIT_BY_KEY)?,
            find_head: connection.prepare_cached(HEAD)?,
            recent,
            spoiled: BTreeSet::new(),
        })
    }

    fn take(&mut self, commit: &Commit) -> rusqlite::Result<Result<Appended, Conflict>> {
        let (fate, holds) = if let Some(before) = self.taken_before(commit)? {
            let holds = before.id == commit.id;
            (Ok(Appended::Before(Box::new(before))), holds)
        } else if let Some(conflict) = self.conflict(commit)? {
            (Err(conflict), false)
        } else {
            rows(commit).for_each(|row| self.recent.push(row));
            (Ok(Appended::New), true)
        };
        if !holds {
            self.spoiled.extend(commit.writes.iter().map(|write| write.stream));
        }
        Ok(fate)
    }

    fn taken_before(&mut self, commit: &Commit) -> rusqlite::Result<Option<StoredCommit>> {
        if let Some(before) = self.recent.all().commit(&commit.id) {
            return Ok(Some(before.clone()));
        }
        if self.recent.may_be_settled(&commit.id)
            && let Some(before) = self.find_commit.query_row([commit.id.as_bytes()], stored_commit).optional()?
        {
            return Ok(Some(before));
        }
        let Some(KeyedRequest { key, .. }) = &commit.key else { return Ok(None) };
        match self.recent.all().key(key) {
            Some(before) => Ok(Some(before.clone())),
            None => self.find_key.query_row([key.as_str()], stored_commit).optional(),
        }
    }

    fn conflict(&mut self, commit: &Commit) -> rusqlite::Result<Option<Conflict>> {
        for write in &commit.writes {
            if self.spoiled.contains(&write.stream) || self.head(write.stream)? != write.expected {
                return Ok(Some(Conflict { stream: write.stream, expected: write.expected }));
            }
        }
        Ok(None)
    }

    fn head(&mut self, stream: AccountId) -> rusqlite::Result<Version> {
        if let Some(head) = self.recent.all().head(stream) {
            return Ok(head);
        }
        let head = self.find_head.query_row(params![Slot::of(&stream).get(), stream.as_bytes()], |row| row.get(0));
        Ok(head.optional()?.map_or(Version::EMPTY, Version::new))
    }
}

/// The rows of a commit; the first carries what the commit leaves.
fn rows(commit: &Commit) -> impl Iterator<Item = Row> {
    let Commit { id, time, key, receipt, writes } = commit;
    let mut stored = Some(StoredCommit { id: *id, time: *time, key: key.clone(), receipt: receipt.clone() });
    writes.iter().map(move |write| {
        let first_version = write.expected.next();
        let recorded = Recorded { stream: write.stream, first_version, time: *time, events: write.events.clone() };
        Row { recorded, commit: stored.take() }
    })
}

/// Writes the commits behind a position; answers with the last one.
fn insert<'a>(
    connection: &Connection,
    before: u64,
    commits: impl Iterator<Item = &'a Commit>,
) -> rusqlite::Result<u64> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO recent
         (position, slot, stream, first_version, count, time, events, commit_id, key, request, receipt)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let mut last = before;
    for commit in commits {
        for (index, write) in commit.writes.iter().enumerate() {
            let first = (index == 0).then_some(commit);
            let keyed = first.and_then(|commit| commit.key.as_ref());
            last += 1;
            insert.execute(params![
                last,
                Slot::of(&write.stream).get(),
                write.stream.as_bytes(),
                write.expected.next().get(),
                write.events.count,
                commit.time.as_micros(),
                &*write.events.json,
                first.map(|commit| commit.id.as_bytes()),
                keyed.map(|keyed| keyed.key.as_str()),
                keyed.map(|keyed| keyed.request),
                first.map(|commit| &*commit.receipt),
            ])?;
        }
    }
    Ok(last)
}
