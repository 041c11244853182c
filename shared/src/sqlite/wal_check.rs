//! Tells a damaged write-ahead log (WAL) from one whose last transaction was cut off by a crash.
//!
//! SQLite uses what precedes the first bad frame of its WAL and drops the rest. That is right for a transaction that
//! was being written when the machine stopped: it was not acknowledged. It is wrong for an older one.
//!
//! If every transaction is fsynced before the next one begins, only the last can be cut off. So if frames follow the
//! end of the transaction that holds the first bad frame, that transaction was acknowledged, and the WAL is damaged.
//! Frames left from before the last restart of the WAL carry other salts and prove nothing. The WAL restarts only when
//! all of them are in the file, synced, whether they were moved by the [`mover`](super::mover), which writes no frames,
//! or by the writer, which alone restarts the WAL, with a header of new salts, in the first transaction that follows.
//!
//! This rests on one condition: when a transaction writes its frames, no frames of the same salts lie behind them.
//! Otherwise one that is cut off in front of them looks as if it had been acknowledged. Why the condition holds:
//!
//! - *Only a COMMIT writes frames.* By default SQLite also writes pages to the WAL when its cache is full. If these are
//!   rolled back, be it all, those behind a savepoint, or those of one statement, the frames stay. So `cache_spill` is
//!   off for the writer: SQLite's `pagerStress` then returns before it writes. The price is that the pages of a
//!   transaction stay in memory until it ends: at most those of one turn.
//! - *A COMMIT that succeeds* appends its frames to the last commit and leaves none behind its own last one.
//! - *A COMMIT that fails*, for example because the disk is full, may leave any part of its frames. Before the next
//!   transaction the WAL is begun anew: all of it is moved into the file, which is synced, and its length is set to
//!   zero; the next COMMIT syncs a header of new salts before it writes its first frame.
//! - *A process that died* may leave a transaction that was cut off, so the WAL is also begun anew when a file is
//!   opened. The missing steps of its schema follow at once, as a single transaction, which may fill the cache. If they
//!   fail, the file is not opened.
//! - *Somebody who reads the WAL*, or the mover while it moves, holds that up. Meanwhile the writer begins no
//!   transaction: it tries before each turn, waits a few seconds for readers, and if they stay, answers the writes as
//!   not done, to be repeated later (see [`leftover`](super::leftover)).
//!
//! Damage to the very last transaction stays hidden: it looks like a crash.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use super::Durability;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The last bit is the byte order in which the checksum reads a word.
const MAGIC: u32 = 0x377f_0682;
const READ_BYTES: usize = 1 << 20;

/// Whether the WALs of such files are checked: only if their transactions are fsynced one by one.
pub(super) fn applies_to(durability: Durability) -> bool {
    durability == Durability::Full
}

/// Whether the WAL of a file to which the check applies has lost an acknowledged transaction.
pub(super) fn is_damaged(log: &Path) -> io::Result<bool> {
    let opened = match File::open(log) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut log = BufReader::with_capacity(READ_BYTES, opened);
    let mut header = [0; HEADER_BYTES];
    // A crash leaves zeros in place of a header that was never written out.
    if !fill(&mut log, &mut header)? || header == [0; HEADER_BYTES] {
        return Ok(false);
    }
    let Some((mut sum, page_bytes)) = begin(&header) else { return Ok(true) };
    let salts = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let (mut good, mut bad_one_ended) = (true, false);
    while fill(&mut log, &mut frame)? {
        let ours = frame[8..16] == *salts;
        if good {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER_BYTES..]);
            good = ours && frame[16..24] == sum.bytes();
        }
        if good || !ours {
            continue;
        }
        if bad_one_ended {
            return Ok(true);
        }
        bad_one_ended = frame[4..8] != [0; 4];
    }
    Ok(false)
}

/// The checksum after the header and the size of a page; `None` if the header is bad.
fn begin(header: &[u8; HEADER_BYTES]) -> Option<(Sum, usize)> {
    let magic = word(&header[..4], u32::from_be_bytes);
    if magic & !1 != MAGIC {
        return None;
    }
    let mut sum = Sum { read: if magic & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes }, pair: [0; 2] };
    sum.add(&header[..24]);
    let page_bytes = usize::try_from(word(&header[8..12], u32::from_be_bytes)).ok()?;
    (header[24..] == sum.bytes() && (512..=65_536).contains(&page_bytes)).then_some((sum, page_bytes))
}

/// The running checksum of the WAL format.
struct Sum {
    read: fn([u8; 4]) -> u32,
    pair: [u32; 2],
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            self.pair[0] = self.pair[0].wrapping_add(word(&pair[..4], self.read)).wrapping_add(self.pair[1]);
            self.pair[1] = self.pair[1].wrapping_add(word(&pair[4..], self.read)).wrapping_add(self.pair[0]);
        }
    }

    fn bytes(&self) -> [u8; 8] {
        let [first, second] = self.pair.map(u32::to_be_bytes);
        std::array::from_fn(|n| if n < 4 { first[n] } else { second[n - 4] })
    }
}

fn word(bytes: &[u8], read: fn([u8; 4]) -> u32) -> u32 {
    read(bytes.try_into().expect("a word has four bytes"))
}

/// Reads a whole piece; `false` if the file ends before it.
fn fill(log: &mut impl Read, piece: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(piece) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;
    use tempfile::TempDir;
    use tokio::time::Duration;

    use super::super::tests::{NOTES, note, notes, opened};
    use super::super::upkeep::NoUpkeep;
    use super::super::{DataFolder, Database, open};
    use super::*;
    use crate::error::{Effect, Retry};

    /// So little that a transaction does not fit in.
    const SMALL_CACHE: &str = "PRAGMA cache_size = 10";
    /// And lets SQLite write to the WAL what does not.
    const SPILLING_CACHE: &str = "PRAGMA cache_size = 10; PRAGMA cache_spill = ON";
    /// A table whose rows must refer to a note by the end of their transaction.
    const REPLIES: &str = "CREATE TABLE reply (note INTEGER REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED) STRICT";

    /// Opens the file and changes how its writer is set up.
    fn opened_with(dir: &TempDir, change: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Database {
        let folder = DataFolder::open(dir.path()).unwrap();
        Database::open_kept_up(&folder, NOTES, |writer| change(writer).map(|()| NoUpkeep)).unwrap()
    }

    /// Inserts far more than a small cache holds.
    fn insert_many(connection: &Connection) -> rusqlite::Result<()> {
        for n in 0..200 {
            let text = format!("{n} {}", "x".repeat(3_000));
            connection.execute("INSERT INTO note (text) VALUES (?1)", [text])?;
        }
        Ok(())
    }

    /// Succeeds, but its transaction cannot be committed.
    fn reply_to_nothing(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("INSERT INTO reply (note) VALUES (-1)", []).map(drop)
    }

    /// Where the next transaction begins in the WAL.
    fn end_of_log(dir: &TempDir) -> u64 {
        let others = Connection::open(dir.path().join(NOTES.file_name)).unwrap();
        let frames: u32 = others.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1)).unwrap();
        HEADER_BYTES as u64 + u64::from(frames) * (FRAME_HEADER_BYTES as u64 + 4_096)
    }

    /// What is found after two more writes, the second of which is cut off.
    async fn found_after_a_power_cut(dir: &TempDir, database: &Database) -> Vec<String> {
        note(database, "kept").await.unwrap();
        let torn = end_of_log(dir);
        note(database, "cut off").await.unwrap();
        let left = cut_off(dir, torn);
        notes(&opened(&left)).await
    }

    /// What a power cut leaves of a folder if it tears the first frame at or after this place in the WAL.
    fn cut_off(dir: &TempDir, torn: u64) -> TempDir {
        let left = TempDir::new().unwrap();
        fs::copy(dir.path().join(NOTES.file_name), left.path().join(NOTES.file_name)).unwrap();
        let mut log = fs::read(dir.path().join("notes.db-wal")).unwrap();
        log[usize::try_from(torn).unwrap() + 100] ^= 1;
        fs::write(left.path().join("notes.db-wal"), log).unwrap();
        left
    }

    /// The second transaction cut off takes less of the WAL than the first one, whose frames are intact except the
    /// first.
    #[tokio::test]
    async fn two_power_cuts_one_behind_the_other_leave_a_file_that_is_opened() {
        let dir = TempDir::new().unwrap();
        let log_bytes = |dir: &TempDir| fs::metadata(dir.path().join("notes.db-wal")).unwrap().len();
        let database = opened(&dir);
        note(&database, "kept").await.unwrap();
        let torn = log_bytes(&dir);
        note(&database, &"x".repeat(100_000)).await.unwrap();
        let once = cut_off(&dir, torn);

        let database = opened(&once);
        assert_eq!(notes(&database).await, ["kept"]);
        note(&database, "cut off").await.unwrap();
        // Its place after what was kept, or else at the beginning of a WAL of its own.
        let torn = if log_bytes(&once) > torn { torn } else { 32 };
        let twice = cut_off(&once, torn);
        assert_eq!(notes(&opened(&twice)).await, ["kept"]);
    }

    #[tokio::test]
    async fn what_was_rolled_back_leaves_no_frames_that_a_power_cut_could_take_for_damage() {
        let dir = TempDir::new().unwrap();
        let database = opened_with(&dir, |writer| writer.execute_batch(SMALL_CACHE));
        let fails = |connection: &Connection| {
            insert_many(connection)?;
            connection.execute("INSERT INTO nowhere", []).map(drop)
        };
        database.write("fails", fails).await.unwrap_err();
        assert_eq!(found_after_a_power_cut(&dir, &database).await, ["kept"]);
    }

    /// This commit fails before it writes a frame, unlike one on a full disk: here they come from the cache.
    #[tokio::test]
    async fn what_a_failed_commit_leaves_is_gone_before_a_power_cut_could_take_it_for_damage() {
        let dir = TempDir::new().unwrap();
        let database = opened_with(&dir, |writer| writer.execute_batch(SPILLING_CACHE));
        database.write("make", |connection| connection.execute_batch(REPLIES)).await.unwrap();
        let fails = |connection: &Connection| insert_many(connection).and_then(|()| reply_to_nothing(connection));
        let failed = database.write("fails", fails).await.unwrap_err();
        assert_eq!(failed.effect, Effect::Unknown);
        assert_eq!(found_after_a_power_cut(&dir, &database).await, ["kept"]);
    }

    #[tokio::test]
    async fn after_a_failed_commit_writes_are_not_done_while_somebody_reads_the_log() {
        let dir = TempDir::new().unwrap();
        let database = opened_with(&dir, |writer| writer.busy_timeout(Duration::ZERO));
        database.write("make", |connection| connection.execute_batch(REPLIES)).await.unwrap();
        let reader = open::open_reader(&dir.path().join(NOTES.file_name)).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM note").unwrap();
        let failed = database.write("fails", reply_to_nothing).await.unwrap_err();
        assert_eq!(failed.effect, Effect::Unknown);
        let refused = note(&database, "too early").await.unwrap_err();
        assert_eq!((refused.effect, refused.retry), (Effect::None, Retry::Later));
        database.check_writer("test").await.unwrap_err();
        drop(reader);
        database.check_writer("test").await.unwrap();
        note(&database, "later").await.unwrap();
        assert_eq!(notes(&database).await, ["later"]);
    }
}
