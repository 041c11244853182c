use std::fs;
use std::path::Path;

use futures::future::join_all;
use tempfile::TempDir;
use tokio::time::{Duration, timeout};

use super::*;
use crate::error::{Effect, Retry};

pub(super) const NOTES: FileSpec = FileSpec {
    file_name: "notes.db",
    application_id: 0x0B0B_0001,
    schema: &["CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT"],
    durability: Durability::Full,
};

pub(super) fn opened(dir: &TempDir) -> Database {
    Database::open(&DataFolder::open(dir.path()).unwrap(), NOTES).unwrap()
}

pub(super) async fn note(database: &Database, text: &str) -> Result<(), BackendError> {
    let text = text.to_owned();
    database.write("note", move |c| c.execute("INSERT INTO note (text) VALUES (?1)", [&text]).map(drop)).await
}

pub(super) async fn notes(database: &Database) -> Vec<String> {
    database
        .read("notes", |connection| {
            let mut query = connection.prepare_cached("SELECT text FROM note ORDER BY text")?;
            query.query_map([], |row| row.get(0))?.collect()
        })
        .await
        .unwrap()
}

/// The files of the folder, without the lock and without what SQLite recreates at will: empty WALs and their index.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, bytes)| name != "LOCK" && !name.ends_with("-shm") && !bytes.is_empty())
        .collect();
    files.sort();
    files
}

/// Opens a file that must be refused, and checks that it was left unchanged.
fn refused(dir: &TempDir) -> OpenError {
    let before = contents(dir.path());
    let refusal = Database::open(&DataFolder::open(dir.path()).unwrap(), NOTES).unwrap_err();
    assert!(contents(dir.path()) == before, "refused with {refusal}, and changed");
    assert!(refusal.to_string().contains("notes.db"), "{refusal} does not name the file");
    refusal
}

#[tokio::test]
async fn writes_that_wait_share_a_transaction() {
    let dir = TempDir::new().unwrap();
    let database = opened(&dir);
    let (open_gate, gate) = std::sync::mpsc::channel::<()>();
    let first = database.write("wait", move |_| {
        gate.recv().expect("the gate is opened");
        Ok(())
    });
    let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let rest = join_all(texts.iter().map(|text| note(&database, text)));
    // Polled in this order: all are in the queue before the gate is opened.
    let (first, rest, ()) = tokio::join!(biased; first, rest, async { open_gate.send(()).unwrap() });
    first.unwrap();
    for written in rest {
        written.unwrap();
    }
    assert_eq!(notes(&database).await.len(), 100);
    assert!(*database.commits().borrow() <= 2, "{} transactions", *database.commits().borrow());
}

#[tokio::test]
async fn a_write_that_fails_half_way_or_panics_changes_nothing_and_spoils_no_other() {
    let dir = TempDir::new().unwrap();
    let database = opened(&dir);
    let fails = database.write("fails", |connection| {
        connection.execute("INSERT INTO note (text) VALUES ('half')", [])?;
        connection.execute("INSERT INTO note (text) VALUES ('half')", []).map(drop)
    });
    let panics = database.write("panics", |connection| {
        let inserted = connection.execute("INSERT INTO note (text) VALUES ('torn')", [])?;
        assert_eq!(inserted, 2, "a mistake in a write");
        Ok(())
    });
    let (before, fails, between, panics, after) =
        tokio::join!(note(&database, "a"), fails, note(&database, "b"), panics, note(&database, "c"));
    for good in [before, between, after] {
        good.unwrap();
    }
    let fails = fails.unwrap_err();
    assert_eq!((fails.effect, fails.retry), (Effect::None, Retry::Never));
    assert!(panics.unwrap_err().to_string().contains("a mistake in a write"));
    assert_eq!(notes(&database).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_read_sees_one_state_while_others_write() {
    let dir = TempDir::new().unwrap();
    let database = opened(&dir);
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (open_gate, gate) = std::sync::mpsc::channel::<()>();
    let count = |connection: &Connection| connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0));
    let read = database.read("twice", move |connection| {
        let first: u64 = count(connection)?;
        begun.send(()).expect("somebody waits");
        gate.recv().expect("the gate is opened");
        Ok((first, count(connection)?))
    });
    let write = async {
        begins.await.unwrap();
        note(&database, "meanwhile").await.unwrap();
        open_gate.send(()).unwrap();
    };
    let (read, ()) = tokio::join!(read, write);
    assert_eq!(read.unwrap(), (0, 0));
    assert_eq!(notes(&database).await, ["meanwhile"]);
}

#[tokio::test]
async fn a_closed_file_is_one_plain_file_that_holds_everything() {
    let dir = TempDir::new().unwrap();
    let database = opened(&dir);
    note(&database, "kept").await.unwrap();
    assert_eq!(notes(&database).await, ["kept"]);
    drop(database);
    let names: Vec<String> = contents(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["notes.db"]);
    assert_eq!(notes(&opened(&dir)).await, ["kept"]);
}

/// Leaves a note in each turn, and then fails in every second one.
#[derive(Default)]
struct Scribbler {
    turns: usize,
    kept: usize,
}

impl Upkeep for Scribbler {
    fn within_turn(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.turns += 1;
        connection.execute("INSERT INTO note (text) VALUES (?1)", [format!("turn {}", self.turns)])?;
        if self.turns.is_multiple_of(2) { connection.execute("INSERT INTO nowhere", []).map(drop) } else { Ok(()) }
    }

    fn after_turn(&mut self, is_kept: bool) {
        self.kept += usize::from(is_kept);
    }

    fn before_close(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let told = format!("{} of {} kept", self.kept, self.turns);
        connection.execute("INSERT INTO note (text) VALUES (?1)", [told]).map(drop)
    }
}

/// Law Q3, and what upkeep is told: upkeep that fails is undone and affects nothing, nor does a write that fails.
#[tokio::test]
async fn upkeep_rides_in_the_turns_of_others_and_spoils_none() {
    let dir = TempDir::new().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    let database = Database::open_kept_up(&folder, NOTES, |_| Ok(Scribbler::default())).unwrap();
    drop(folder);
    for text in ["a", "b", "c"] {
        note(&database, text).await.unwrap();
    }
    note(&database, "c").await.unwrap_err();
    note(&database, "d").await.unwrap();
    drop(database);
    assert_eq!(notes(&opened(&dir)).await, ["4 of 7 kept", "a", "b", "c", "d", "turn 1", "turn 3", "turn 5", "turn 7"]);
}

/// So tight that pages are moved all the time, and by the mover alone.
pub(super) const ALWAYS_MOVING: Bounds = Bounds { move_pages: 8, restart_pages: 1_000_000 };

fn opened_bounded(dir: &TempDir, bounds: Bounds) -> Database {
    Database::open_bounded(&DataFolder::open(dir.path()).unwrap(), NOTES, bounds, |_| Ok(NoUpkeep)).unwrap()
}

/// Writes notes of a page each, numbered from `from` on.
async fn burst(database: &Database, from: usize, count: usize) {
    let texts: Vec<String> = (from..from + count).map(|n| format!("{n:05} {}", "x".repeat(3_000))).collect();
    for written in join_all(texts.iter().map(|text| note(database, text))).await {
        written.unwrap();
    }
}

#[tokio::test]
async fn pages_reach_the_file_while_the_writer_idles() {
    let dir = TempDir::new().unwrap();
    let database = opened_bounded(&dir, ALWAYS_MOVING);
    for n in 0..20 {
        burst(&database, 5 * n, 5).await;
    }
    let others = Connection::open(dir.path().join("notes.db")).unwrap();
    let left = |row: &rusqlite::Row<'_>| Ok(row.get::<_, u32>(1)? - row.get::<_, u32>(2)?);
    let moved = async {
        // The last turns may have had too few pages for a move.
        while others.query_row("PRAGMA wal_checkpoint(NOOP)", [], left).unwrap() >= ALWAYS_MOVING.move_pages {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_mins(1), moved).await.expect("moved within a minute");
    drop((others, database));
    assert!(!dir.path().join("notes.db-wal").exists(), "closing leaves no log");
    assert_eq!(notes(&opened(&dir)).await.len(), 100);
}

/// Copies of the files, taken while pages are moved, as a crash would leave them. A reader keeps the WAL from
/// restarting between the copy of the file and that of the WAL: a crash leaves both as of one moment.
#[tokio::test]
async fn a_crash_while_pages_are_moved_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let database = opened_bounded(&dir, Bounds { restart_pages: 64, ..ALWAYS_MOVING });
    let mut written = 0;
    for round in 0..30 {
        burst(&database, written, 1 + round).await;
        written += 1 + round;
        let reader = Connection::open(dir.path().join("notes.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM note").unwrap();
        let killed = TempDir::new().unwrap();
        for name in ["notes.db", "notes.db-wal"] {
            fs::copy(dir.path().join(name), killed.path().join(name)).unwrap();
        }
        drop(reader);
        let found = notes(&opened(&killed)).await;
        let numbers = found.iter().map(|text| text[..5].parse::<usize>().unwrap());
        assert!(numbers.eq(0..written), "{} of {written} notes", found.len());
    }
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_any_more_does_not_hold_up_closing() {
    let dir = TempDir::new().unwrap();
    let database = opened(&dir);
    note(&database, "kept").await.unwrap();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let mut reading = database.begin_read("endless", |connection, wanted| {
        connection.query_row("SELECT count(*) FROM note", [], |_| Ok(()))?;
        begun.send(()).expect("somebody waits");
        loop {
            wanted.check()?;
            std::thread::yield_now();
        }
        #[expect(unreachable_code, reason = "it says what the read would answer with")]
        Ok(())
    });
    begins.await.unwrap();
    assert!(futures::poll!(std::pin::pin!(reading.done())).is_pending(), "it goes on while it is wanted");
    drop((reading, database));
    let names: Vec<String> = contents(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["notes.db"], "the log was moved into the file");
}

#[tokio::test]
async fn a_feed_is_told_of_every_commit() {
    let dir = TempDir::new().unwrap();
    let database = opened(&dir);
    let mut commits = database.commits();
    let told = timeout(Duration::from_mins(1), commits.changed());
    let (written, told) = tokio::join!(note(&database, "a"), told);
    written.unwrap();
    told.expect("news within a minute").unwrap();
    drop(database);
    commits.borrow_and_update();
    assert!(commits.changed().await.is_err(), "the end is told as well");
}

#[tokio::test]
async fn a_full_file_is_fsynced_with_every_transaction() {
    let dir = TempDir::new().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    for (durability, synchronous) in [(Durability::Full, 2), (Durability::Normal, 1)] {
        let database = Database::open(&folder, FileSpec { durability, ..NOTES }).unwrap();
        let set = |c: &Connection| c.pragma_query_value(None, "synchronous", |row| row.get(0));
        let found: i64 = database.write("synchronous", set).await.unwrap();
        assert_eq!(found, synchronous);
    }
}

#[test]
fn a_folder_in_use_is_refused_until_it_is_given_back() {
    let dir = TempDir::new().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    let refusal = DataFolder::open(dir.path()).unwrap_err();
    assert!(matches!(refusal, OpenError::InUse { .. }));
    assert!(refusal.to_string().contains(&format!("in use by process {}", std::process::id())), "{refusal}");
    let database = Database::open(&folder, NOTES).unwrap();
    drop(folder);
    assert!(matches!(DataFolder::open(dir.path()), Err(OpenError::InUse { .. })), "an open file keeps the lock");
    drop(database);
    DataFolder::open(dir.path()).unwrap();
}

#[test]
fn what_is_not_a_file_of_ours_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join(NOTES.file_name);
    for garbage in [&b""[..], b"SQLite format 3\0 and no more", &[0x5a; 9_000]] {
        fs::write(&file, garbage).unwrap();
        assert!(matches!(refused(&dir), OpenError::Damaged { .. }));
    }
    fs::remove_file(&file).unwrap();
    let other = Connection::open(&file).unwrap();
    other.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    // Not even their WAL is moved into their file.
    assert!(matches!(refused(&dir), OpenError::Foreign { .. }));
    drop(other);
    assert!(matches!(refused(&dir), OpenError::Foreign { .. }));
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let database = opened(&dir);
    let texts: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    for written in join_all(texts.iter().map(|text| note(&database, text))).await {
        written.unwrap();
    }
    drop(database);
    let file = dir.path().join(NOTES.file_name);
    let whole = fs::read(&file).unwrap();
    assert!(whole.len() > 5 * 4_096, "some pages to damage");

    fs::write(&file, &whole[..whole.len() - 4_096]).unwrap();
    assert!(matches!(refused(&dir), OpenError::Damaged { .. }), "cut off");

    let mut scratched = whole.clone();
    scratched[3 * 4_096..4 * 4_096].fill(0x5a);
    fs::write(&file, &scratched).unwrap();
    assert!(matches!(refused(&dir), OpenError::Damaged { .. }), "overwritten in the middle");

    fs::remove_file(&file).unwrap();
    fs::write(dir.path().join("notes.db-wal"), b"a log").unwrap();
    assert!(matches!(refused(&dir), OpenError::Damaged { .. }), "gone");

    fs::remove_file(dir.path().join("notes.db-wal")).unwrap();
    fs::write(&file, &whole).unwrap();
    assert_eq!(notes(&opened(&dir)).await.len(), 2_000);
}

#[tokio::test]
async fn a_log_that_lost_a_transaction_is_refused_and_one_that_was_cut_off_is_not() {
    let dir = TempDir::new().unwrap();
    let database = opened(&dir);
    for n in 0..20 {
        note(&database, &n.to_string()).await.unwrap();
    }
    let killed = TempDir::new().unwrap();
    fs::copy(dir.path().join("notes.db"), killed.path().join("notes.db")).unwrap();
    let log = fs::read(dir.path().join("notes.db-wal")).unwrap();
    let frame = 24 + 4_096;
    assert_eq!(log.len() % frame, 32, "a header and whole frames");
    let put = |log: &[u8]| fs::write(killed.path().join("notes.db-wal"), log).unwrap();
    for scratch in [20, 32 + 9, 32 + 5 * frame + 1_000, log.len() - 5 * frame] {
        let mut scratched = log.clone();
        scratched[scratch] ^= 1;
        put(&scratched);
        assert!(matches!(refused(&killed), OpenError::Damaged { .. }), "byte {scratch}");
    }
    put(&log[..log.len() - 100]);
    assert_eq!(notes(&opened(&killed)).await.len(), 19, "the last write was never acknowledged");
}

#[tokio::test]
async fn a_newer_file_is_refused_and_an_older_one_takes_the_steps_it_lacks() {
    const NEWER: FileSpec = FileSpec { schema: &[NOTES.schema[0], "ALTER TABLE note ADD COLUMN colour TEXT"], ..NOTES };
    let dir = TempDir::new().unwrap();
    note(&opened(&dir), "old").await.unwrap();
    let database = Database::open(&DataFolder::open(dir.path()).unwrap(), NEWER).unwrap();
    database.write("paint", |c| c.execute("UPDATE note SET colour = 'red'", []).map(drop)).await.unwrap();
    drop(database);
    let refusal = refused(&dir);
    assert!(matches!(refusal, OpenError::Newer { found: 2, known: 1, .. }), "{refusal}");
}

#[tokio::test]
async fn a_crash_while_a_file_is_made_leaves_nothing_in_its_place() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("notes.db.new"), b"half of a file").unwrap();
    let database = opened(&dir);
    note(&database, "whole").await.unwrap();
    assert_eq!(notes(&database).await, ["whole"]);
}
