//! Moves pages out of the write-ahead log (WAL) into the file while the writer continues.
//!
//! By default SQLite does that within the commit that finds the WAL too long, and the append waits until all of it is
//! moved and synced. Here a thread with its own connection moves a part at a time, in parallel with the writer, which
//! moves the rest.
//!
//! - *The WAL is bounded* (law Q7). It restarts when a write finds all of it moved and nobody reading from it. With a
//!   busy writer the mover never gets that far: it moves what was there when it began. So from
//!   [`Bounds::restart_pages`] on, the writer moves the rest after each turn until nothing is left, as SQLite would
//!   within the commit, and the rest is small. While the mover is moving, the writer does not, but tries again after
//!   the next turn, so the WAL exceeds the bound by what is written during one move. And as always in SQLite, pages
//!   that a reader of an old state needs are not overwritten, so the WAL grows for as long as it reads. What the upkeep
//!   writes before the file is closed is moved behind it, all at once.
//! - *Commits stay as durable as before* (law Q1). Only committed pages are moved. SQLite syncs the WAL before it moves
//!   them, and lets the WAL restart only when it has synced the file after the last of them. The mover writes nothing
//!   to the WAL.
//! - *A sync of the mover that fails* is never made up for by a later one of the writer: the kernel does not write the
//!   pages again. It is final for the file (law Q8), and so is one that fails while the writer moves the rest; see
//!   [`sync_failure`](super::sync_failure).
//! - *The writer does not wait for the mover* before the file is closed: it puts a signal into a channel of capacity
//!   one, and goes on if there is one already. On a signal, the mover moves all there is by then.
//! - *A mover that fails* for any other reason, or ends, is reported in the log of the process, and costs only that the
//!   writer moves more.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tracing::{error, warn};

use super::sync_failure::SyncFailure;

/// How many pages the WAL gathers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// By how many it grows before the mover gets a signal.
    pub(super) move_pages: u32,
    /// At how many the writer moves the rest, so that the WAL restarts.
    pub(super) restart_pages: u32,
}

/// A move of 16 MiB is short compared with the time in which a busy writer writes as much, and moves a page that was
/// written repeatedly only once. With a WAL of 256 MiB, the writer moves the rest once for every sixteen moves of the
/// mover; a larger one takes more disk space, and longer to read after a crash.
pub(super) const BOUNDS: Bounds = Bounds { move_pages: 4_096, restart_pages: 65_536 };

impl Bounds {
    /// How much disk space the WAL keeps when it restarts: as many pages as it has when all goes well, which are then
    /// overwritten. Only space that it took because moving was held up is released.
    pub(super) const fn pages_kept(self) -> u32 {
        self.restart_pages + self.move_pages
    }
}

/// The thread that moves pages, and the channel to it. Ends when this is dropped, after a move that is under way.
pub(super) struct Mover {
    word: Option<SyncSender<()>>,
    growth: Growth,
    sync_failure: SyncFailure,
    thread: Option<JoinHandle<()>>,
}

impl Mover {
    pub(super) fn start(
        connection: Connection,
        synced: Arc<File>,
        sync_failure: SyncFailure,
        file_name: &'static str,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let (word, told) = sync_channel(1);
        let failure = sync_failure.clone();
        let thread = Builder::new()
            .name(format!("move {file_name}"))
            .spawn(move || move_all(&connection, &synced, &told, &failure, file_name))?;
        Ok(Self { word: Some(word), growth: Growth::new(bounds), sync_failure, thread: Some(thread) })
    }

    /// Has pages moved if enough have gathered, and moves the rest if the WAL is to restart; called after each turn of
    /// the writer.
    pub(super) fn after_turn(&mut self, writer: &Connection) {
        if self.sync_failure.is_known() {
            return;
        }
        match move_rest(writer, self.growth.bounds).map(|pages| self.growth.is_due(pages)) {
            Ok(true) => self.signal(),
            Ok(false) => {}
            Err(error) => {
                self.sync_failure.note_if_sync(&error);
                warn!(%error, "cannot move the rest of the write-ahead log, trying again after the next turn");
            }
        }
    }

    fn signal(&mut self) {
        let Some(word) = &self.word else { return };
        match word.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                error!("the thread that moves the write-ahead log has ended, the writer takes over");
                self.word = None;
            }
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.word = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the thread that moves the write-ahead log panicked");
        }
    }
}

/// The handle through which the mover syncs the file. SQLite's locks on the file belong to the process, and closing any
/// handle of the file releases them, so this one is closed after all connections.
pub(super) fn synced(file: &Path) -> io::Result<Arc<File>> {
    OpenOptions::new().read(true).write(true).open(file).map(Arc::new)
}

fn move_all(connection: &Connection, synced: &File, told: &Receiver<()>, failure: &SyncFailure, file_name: &str) {
    while told.recv().is_ok() && !failure.is_known() {
        if let Err(error) = move_pages(connection) {
            failure.note_if_sync(&error);
            warn!(file = file_name, %error, "cannot move the write-ahead log, trying again when it has grown");
        }
        // SQLite syncs the file only when all of the WAL is moved: the writer would wait for what is not synced here.
        if let Err(error) = synced.sync_data() {
            failure.note(&error);
        }
    }
}

/// Moves the pages that no reader needs in the WAL, without waiting for anybody.
fn move_pages(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// Moves what the mover has left, if the WAL is so long that it must restart. Returns how many pages it has.
fn move_rest(writer: &Connection, bounds: Bounds) -> rusqlite::Result<u32> {
    let pages = pages_in_log(writer)?;
    if pages >= bounds.restart_pages {
        move_pages(writer)?;
    }
    Ok(pages)
}

/// How many pages the WAL has since it restarted. On the connection that writes, between its transactions, this takes
/// no lock and reads no file.
fn pages_in_log(writer: &Connection) -> rusqlite::Result<u32> {
    writer.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], |row| row.get(1))
}

/// How far the WAL has grown since the mover got a signal.
struct Growth {
    told_at: u32,
    bounds: Bounds,
}

impl Growth {
    const fn new(bounds: Bounds) -> Self {
        Self { told_at: 0, bounds }
    }

    fn is_due(&mut self, pages: u32) -> bool {
        if pages < self.told_at {
            // It has restarted.
            self.told_at = 0;
        }
        let is_due = pages - self.told_at >= self.bounds.move_pages;
        if is_due {
            self.told_at = pages;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use tempfile::TempDir;

    use super::super::{Durability, FileSpec, open};
    use super::*;

    const FILE: FileSpec = FileSpec {
        file_name: "moved.db",
        application_id: 0x0B0B_0002,
        schema: &["CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT"],
        durability: Durability::Full,
    };
    const TIGHT: Bounds = Bounds { move_pages: 8, restart_pages: 32 };
    /// How many pages one transaction of this test adds: one or two, and seldom a parent of theirs.
    const PAGES_OF_A_TRANSACTION: RangeInclusive<u32> = 1..=4;

    struct Moved {
        writer: Connection,
        mover: Connection,
        growth: Growth,
        dir: TempDir,
    }

    impl Moved {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let file = dir.path().join(FILE.file_name);
            let (writer, _) = open::open(&file, &FILE, TIGHT).unwrap();
            let mover = open::open_mover(&file, &FILE).unwrap();
            Self { writer, mover, growth: Growth::new(TIGHT), dir }
        }

        fn insert(&self) {
            self.writer.execute("INSERT INTO note (text) VALUES (?1)", ["x".repeat(3_000)]).unwrap();
        }

        /// One turn of the writer; returns the pages of the WAL after it.
        fn write(&self) -> u32 {
            self.insert();
            move_rest(&self.writer, TIGHT).unwrap()
        }

        fn move_if_due(&mut self) {
            if self.growth.is_due(pages_in_log(&self.writer).unwrap()) {
                move_pages(&self.mover).unwrap();
            }
        }

        /// How many pages of the WAL are not in the file yet.
        fn left(&self) -> u32 {
            let left = |row: &rusqlite::Row<'_>| Ok(row.get::<_, u32>(1)? - row.get::<_, u32>(2)?);
            self.writer.query_row("PRAGMA wal_checkpoint(NOOP)", [], left).unwrap()
        }

        fn reader(&self) -> Connection {
            let reader = open::open_reader(&self.dir.path().join(FILE.file_name)).unwrap();
            reader.execute_batch("BEGIN; SELECT count(*) FROM note").unwrap();
            reader
        }
    }

    #[test]
    fn the_log_stays_bounded_and_little_is_left_to_the_writer() {
        let mut moved = Moved::new();
        let (mut pages, mut written, mut restarts) = (0, 0, 0);
        while written < 20 * TIGHT.restart_pages {
            // Before the write, so that the mover alone never causes a restart: it is always some pages behind.
            moved.move_if_due();
            let before = pages;
            pages = moved.write();
            restarts += u32::from(pages < before);
            let grown = if pages < before { pages } else { pages - before };
            assert!(PAGES_OF_A_TRANSACTION.contains(&grown), "{grown} pages");
            written += grown;
            assert!(pages < TIGHT.restart_pages + *PAGES_OF_A_TRANSACTION.end(), "{pages} pages");
            assert!(moved.left() < TIGHT.move_pages + *PAGES_OF_A_TRANSACTION.end(), "{} pages", moved.left());
        }
        assert!(restarts >= 15, "the log began anew {restarts} times");
    }

    #[test]
    fn the_log_grows_while_somebody_reads_an_old_state_and_begins_anew_behind_him() {
        let mut moved = Moved::new();
        moved.write();
        let reader = moved.reader();
        let mut pages = 0;
        while pages < 3 * TIGHT.restart_pages {
            pages = moved.write();
            moved.move_if_due();
        }
        assert!(moved.left() >= 2 * TIGHT.restart_pages, "he needs what was there before");
        drop(reader);
        moved.write();
        assert_eq!(moved.left(), 0, "the writer moved the rest");
        assert!(moved.write() <= *PAGES_OF_A_TRANSACTION.end(), "anew");
    }

    #[test]
    fn a_mover_that_ended_leaves_the_work_to_the_writer() {
        let moved = Moved::new();
        let (word, told) = sync_channel(1);
        drop(told);
        let sync_failure = SyncFailure::none(FILE.file_name);
        let mut ended = Mover { word: Some(word), growth: Growth::new(TIGHT), sync_failure, thread: None };
        let mut pages_max = 0;
        for _ in 0..5 * TIGHT.restart_pages {
            moved.insert();
            pages_max = pages_max.max(pages_in_log(&moved.writer).unwrap());
            ended.after_turn(&moved.writer);
        }
        assert!(ended.word.is_none(), "it was noticed");
        assert!(pages_max < TIGHT.restart_pages + *PAGES_OF_A_TRANSACTION.end(), "{pages_max} pages");
    }
}
