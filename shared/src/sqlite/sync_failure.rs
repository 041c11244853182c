//! The failure of a sync, which is final for a file until it is opened again (law Q8).
//!
//! When the kernel cannot write pages to the disk, it reports that to the next sync, once for each open handle of the
//! file (Linux, since 4.13), and takes the pages for clean. Nobody writes them again: the sync after that succeeds, and
//! once the pages are evicted, the disk's old ones take their place. Pages that were moved out of the write-ahead log
//! (WAL) can be lost like this although they were committed, and nothing can restore them once the WAL has restarted.
//! So after the first sync that fails, of the file or of its WAL, no transaction begins, no page is moved, closing
//! leaves the WAL as it is, and reads fail.
//!
//! - *Opening the file again restores it.* Pages are moved only after the WAL was synced, and it has not restarted
//!   since. Who opens the file first reads the WAL from its beginning, counts none of it as moved (`walIndexRecover` in
//!   SQLite), and so moves all of it once more. That is somebody who opens it while nobody else has it open: a person
//!   who keeps it open with another program keeps the count too, and must close it first.
//! - *The WAL does not restart before the failure is known.* It restarts only in a transaction that finds all of it
//!   moved, and SQLite counts its last page as moved only when it has synced the file through the same connection: the
//!   writer's or the mover's. If pages that were moved before did not reach the disk, the first such sync of each of
//!   the two fails, because no other handle can take its report. Both look at the outcome of every checkpoint, so
//!   neither of them tries again. That is why SQLite makes none within a commit: it would keep the failure to itself.
//!   What a checkpoint cannot sync it does not count as moved, so its own pages are not in danger, only earlier ones.
//! - *A commit whose sync fails* has an unknown outcome. The commits before it were synced, but the next checkpoint
//!   would meet the same failure in the mover's handle of the WAL, so it is final at once.
//! - *It concerns files of every durability.* One that has lost pages in its middle is not in the state after any
//!   transaction, which [`Durability::Normal`](super::Durability) excludes as well, and it does not even take the end
//!   of a process to show.
//!
//! What remains: while the kernel knows that it could not write a page and the sync that reports it has not returned,
//! a read or a write may find the old page. What such a write has decided on it is committed.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};

use rusqlite::{Error, ffi};
use tracing::error;

use crate::error::BackendError;

/// Whether a sync of a file or of its WAL has failed since it was opened. Clones share what is known.
#[derive(Clone)]
pub(super) struct SyncFailure {
    file_name: &'static str,
    advice: Arc<OnceLock<String>>,
}

impl SyncFailure {
    /// None so far, of a file that is being opened.
    pub(super) fn none(file_name: &'static str) -> Self {
        Self { file_name, advice: Arc::default() }
    }

    /// Notes that a sync failed; the first one counts.
    pub(super) fn note(&self, error: &impl Display) {
        let file_name = self.file_name;
        let advice = format!(
            "the disk failed to sync {file_name} ({error}): check the disk, then restart the process, which writes \
             again what may not have reached the disk"
        );
        if self.advice.set(advice).is_ok() {
            error!(file = file_name, %error, "the disk failed to sync a file, it is not used until opened again");
        }
    }

    /// Notes it if SQLite could not commit or move pages because a sync failed.
    pub(super) fn note_if_sync(&self, error: &Error) {
        if error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_FSYNC) {
            self.note(error);
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.advice().is_some()
    }

    /// What happened and what to do, once it is known.
    pub(super) fn advice(&self) -> Option<&str> {
        self.advice.get().map(String::as_str)
    }

    /// The failure of a call that needs the file, once it is known.
    pub(super) fn check(&self, operation: &'static str) -> Result<(), BackendError> {
        self.advice().map_or(Ok(()), |advice| Err(BackendError::broken(operation, advice)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use tempfile::TempDir;
    use tokio::time::{Duration, timeout};

    use super::super::mover::Mover;
    use super::super::reader::Readers;
    use super::super::tests::{ALWAYS_MOVING, NOTES, note, notes, opened};
    use super::super::upkeep::NoUpkeep;
    use super::super::write_failure::WriteFailure;
    use super::super::writer::{Gate, Writer};
    use super::super::{DataFolder, Database, open};
    use super::*;
    use crate::error::{Effect, Retry};

    /// Opens the file with a mover whose handle for syncing cannot be synced.
    fn opened_on_a_failing_disk(dir: &TempDir) -> Database {
        let folder = DataFolder::open(dir.path()).unwrap();
        let file = dir.path().join(NOTES.file_name);
        let failure = SyncFailure::none(NOTES.file_name);
        let (connection, leftover) = open::open(&file, &NOTES, ALWAYS_MOVING).unwrap();
        let beside = open::open_mover(&file, &NOTES).unwrap();
        let synced = Arc::new(File::open("/dev/null").unwrap());
        synced.sync_data().unwrap_err();
        let mover = Mover::start(beside, Arc::clone(&synced), failure.clone(), NOTES.file_name, ALWAYS_MOVING).unwrap();
        let gate = Gate::new(failure.clone(), WriteFailure::none(NOTES.file_name), leftover);
        let writer = Writer::start(connection, mover, gate, NOTES.file_name, NoUpkeep).unwrap();
        Database { readers: Readers::of(file, failure), writer: Arc::new(writer), _synced: synced, _folder: folder }
    }

    #[tokio::test]
    async fn a_file_that_could_not_be_synced_takes_no_write_and_keeps_what_was_acknowledged() {
        let dir = TempDir::new().unwrap();
        let (file, log) = (dir.path().join("notes.db"), dir.path().join("notes.db-wal"));
        drop(opened(&dir));
        // Nothing that is moved from now on will have reached the disk.
        let on_disk = fs::read(&file).unwrap();
        let database = opened_on_a_failing_disk(&dir);
        let mut written = vec!["00000".to_owned()];
        note(&database, &written[0]).await.unwrap();
        // He keeps the mover from the end of the log, where SQLite itself would sync the file.
        let reader = open::open_reader(&file).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM note").unwrap();
        let refused = async {
            loop {
                let text = format!("{:05}", written.len());
                match note(&database, &text).await {
                    Ok(()) => written.push(text),
                    Err(refusal) => break refusal,
                }
            }
        };
        let refusal = timeout(Duration::from_mins(1), refused).await.expect("refused within a minute");
        assert_eq!((refusal.effect, refusal.retry), (Effect::None, Retry::Never));
        assert!(refusal.to_string().contains("restart the process"), "{refusal}");

        drop(reader);
        let left = fs::read(&log).unwrap();
        note(&database, "refused").await.unwrap_err();
        database.check_writer("test").await.unwrap_err();
        database.read("test", |_| Ok(())).await.unwrap_err();
        drop(database);
        assert!(fs::read(&log).unwrap() == left, "the log neither grew, nor restarted, nor is it gone");
        fs::write(&file, on_disk).unwrap();
        assert_eq!(notes(&opened(&dir)).await, written);
    }

    #[test]
    fn only_a_failed_sync_is_final() {
        let failed = |code| Error::SqliteFailure(ffi::Error::new(code), None);
        let failure = SyncFailure::none(NOTES.file_name);
        for passing in [ffi::SQLITE_BUSY, ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE] {
            failure.note_if_sync(&failed(passing));
        }
        failure.check("test").unwrap();
        failure.note_if_sync(&failed(ffi::SQLITE_IOERR_FSYNC));
        let told = failure.clone().check("test").unwrap_err();
        assert!(told.to_string().contains("notes.db"), "{told}");
    }
}
