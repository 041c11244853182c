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
//! Each process restarts it when it begins, so that frames cut off earlier do not follow those it writes.
//!
//! Damage to the very last transaction stays hidden: it looks like a crash.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The last bit is the byte order in which the checksum reads a word.
const MAGIC: u32 = 0x377f_0682;
const READ_BYTES: usize = 1 << 20;

/// Whether the WAL of a [`Full`](super::Durability::Full) file has lost an acknowledged transaction.
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

    use tempfile::TempDir;

    use super::super::tests::{NOTES, note, notes, opened};

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
}
