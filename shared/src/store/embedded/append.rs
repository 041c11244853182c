//! The append of a batch, inside a transaction of the writer thread.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, Error, OptionalExtension, ffi, params};

use super::read::{self, HEAD};
use super::recent::{Place, Recent, Row, Shared, place};
use crate::coordinate::Version;
use crate::event::Recorded;
use crate::id::{AccountId, CommitId};
use crate::partition::Slot;
use crate::store::{AppendError, Appended, Commit, IdempotencyKey, KeyedRequest, StoredCommit};

/// A stream that is not at the version the writer expected.
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

/// Takes the commits one after another; each sees the effects of those before it. After an error the transaction undoes
/// all of them in the file, and the next append removes their rows from memory (law G3).
pub(super) fn append(
    connection: &Connection,
    shared: &Shared,
    rows_max: u64,
    commits: &[Commit],
) -> rusqlite::Result<Batch> {
    let before = read::last_position(connection)?;
    prepare(&mut shared.write(), before, rows_max)?;
    // Memory is locked only while it is changed, so that readers never wait for a look-up in the file. Nobody else
    // changes memory or file meanwhile.
    let settled = Settled::look_up(connection, shared, commits)?;
    let fates = judge(&mut shared.write(), &settled, commits);
    let taken = commits.iter().zip(&fates).filter(|(_, fate)| matches!(fate, Ok(Appended::New)));
    let last = insert(connection, before, taken.map(|(commit, _)| commit))?;
    Ok(Batch { fates, last })
}

/// Brings memory in line with the file, or says why nothing can be judged.
fn prepare(recent: &mut Recent, before: u64, rows_max: u64) -> rusqlite::Result<()> {
    recent.take_back_behind(before);
    if recent.last() != before {
        return Err(refused(ffi::SQLITE_CORRUPT, "store.db is not at the position the writer expects"));
    }
    if recent.all().len() >= rows_max {
        return Err(refused(ffi::SQLITE_FULL, "recent appends could not be sorted in for too long"));
    }
    Ok(())
}

fn refused(code: i32, reason: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), Some(reason.to_owned()))
}

/// What the sorted tables hold of the ids, keys and streams of a batch that are not in memory.
struct Settled {
    commits: HashMap<CommitId, StoredCommit>,
    keys: HashMap<IdempotencyKey, StoredCommit>,
    heads: HashMap<AccountId, Version>,
}

impl Settled {
    fn look_up(connection: &Connection, shared: &Shared, commits: &[Commit]) -> rusqlite::Result<Self> {
        let Unknown { ids, keys, streams } = Unknown::of(&shared.read(), commits);
        let by_id = read::commits(connection, &ids)?.into_iter().flatten().map(|stored| (stored.id, stored));
        let by_key = |stored: StoredCommit| Some((stored.key.as_ref()?.key.clone(), stored));
        Ok(Self {
            commits: by_id.collect(),
            keys: read::keys(connection, &keys)?.into_iter().flatten().filter_map(by_key).collect(),
            heads: heads(connection, &streams)?,
        })
    }
}

fn heads(connection: &Connection, streams: &BTreeSet<Place>) -> rusqlite::Result<HashMap<AccountId, Version>> {
    let mut find = connection.prepare_cached(HEAD)?;
    let mut heads = HashMap::with_capacity(streams.len());
    for (slot, stream) in streams {
        let head: Option<u64> = find.query_row(params![slot, stream.as_bytes()], |row| row.get(0)).optional()?;
        heads.extend(head.map(|head| (*stream, Version::new(head))));
    }
    Ok(heads)
}

/// The ids, keys and streams of a batch that are not in memory.
struct Unknown {
    ids: Vec<CommitId>,
    keys: Vec<IdempotencyKey>,
    /// In the order of the table.
    streams: BTreeSet<Place>,
}

impl Unknown {
    fn of(recent: &Recent, commits: &[Commit]) -> Self {
        let all = recent.all();
        let ids = commits.iter().map(|commit| commit.id);
        let keys = commits.iter().filter_map(|commit| Some(&commit.key.as_ref()?.key));
        let streams = commits.iter().flat_map(|commit| &commit.writes).map(|write| write.stream);
        Self {
            ids: ids.filter(|id| all.commit(id).is_none() && recent.may_be_settled(id)).collect(),
            keys: keys.filter(|key| all.key(key).is_none()).cloned().collect(),
            streams: streams.filter(|stream| all.head(*stream).is_none()).map(place).collect(),
        }
    }
}

fn judge(recent: &mut Recent, settled: &Settled, commits: &[Commit]) -> Vec<Result<Appended, Conflict>> {
    let mut judge = Judge { recent, settled, spoiled: BTreeSet::new() };
    commits.iter().map(|commit| judge.take(commit)).collect()
}

struct Judge<'a> {
    recent: &'a mut Recent,
    settled: &'a Settled,
    /// Streams of commits in this batch that wrote nothing: later commits to them were decided on what did not happen.
    spoiled: BTreeSet<AccountId>,
}

impl Judge<'_> {
    fn take(&mut self, commit: &Commit) -> Result<Appended, Conflict> {
        let (fate, holds) = if let Some(before) = self.taken_before(commit) {
            let holds = before.id == commit.id;
            (Ok(Appended::Before(Box::new(before))), holds)
        } else if let Some(conflict) = self.conflict(commit) {
            (Err(conflict), false)
        } else {
            rows(commit).for_each(|row| self.recent.push(row));
            (Ok(Appended::New), true)
        };
        if !holds {
            self.spoiled.extend(commit.writes.iter().map(|write| write.stream));
        }
        fate
    }

    fn taken_before(&self, commit: &Commit) -> Option<StoredCommit> {
        let all = self.recent.all();
        if let Some(before) = all.commit(&commit.id).or_else(|| self.settled.commits.get(&commit.id)) {
            return Some(before.clone());
        }
        let KeyedRequest { key, .. } = commit.key.as_ref()?;
        all.key(key).or_else(|| self.settled.keys.get(key)).cloned()
    }

    fn conflict(&self, commit: &Commit) -> Option<Conflict> {
        let misfit = commit
            .writes
            .iter()
            .find(|write| self.spoiled.contains(&write.stream) || self.head(write.stream) != write.expected)?;
        Some(Conflict { stream: misfit.stream, expected: misfit.expected })
    }

    fn head(&self, stream: AccountId) -> Version {
        let settled = || self.settled.heads.get(&stream).copied();
        self.recent.all().head(stream).or_else(settled).unwrap_or(Version::EMPTY)
    }
}

/// The rows of a commit; the first one carries its id, key and receipt.
fn rows(commit: &Commit) -> impl Iterator<Item = Row> {
    let Commit { id, time, key, receipt, writes } = commit;
    let mut stored = Some(StoredCommit { id: *id, time: *time, key: key.clone(), receipt: receipt.clone() });
    writes.iter().map(move |write| {
        let first_version = write.expected.next();
        let recorded = Recorded { stream: write.stream, first_version, time: *time, events: write.events.clone() };
        Row { recorded, commit: stored.take() }
    })
}

/// Inserts the commits after a position; returns the last position.
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
    for Row { recorded, commit } in commits.flat_map(rows) {
        let commit = commit.as_ref();
        let keyed = commit.and_then(|commit| commit.key.as_ref());
        last += 1;
        insert.execute(params![
            last,
            Slot::of(&recorded.stream).get(),
            recorded.stream.as_bytes(),
            recorded.first_version.get(),
            recorded.events.count,
            recorded.time.as_micros(),
            &*recorded.events.json,
            commit.map(|commit| commit.id.as_bytes()),
            keyed.map(|keyed| keyed.key.as_str()),
            keyed.map(|keyed| keyed.request),
            commit.map(|commit| &*commit.receipt),
        ])?;
    }
    Ok(last)
}
