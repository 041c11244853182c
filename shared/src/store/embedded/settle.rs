//! Moves what is recent into the sorted tables, a slice at a time (laws G4 to G6 of the module above).

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::recent::{Row, Shared, place};
use super::view::View;
use crate::partition::{SLOTS, SlotRange};
use crate::sqlite::Upkeep;
use crate::store::StoredCommit;

/// How much is gathered before it is sorted in, how finely that is done, and how much of it is read ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// How many rows are gathered. At most about twice as many are in memory, and are read when a store is opened whose
    /// process was killed.
    pub(super) rows: u64,
    /// In how many slices a run sorts the writes in, and in how many it then moves the rest.
    pub(super) slices: u16,
    /// From how many rows on nothing is appended: only if sorting has failed for long. Far above what the turn in which
    /// a run ends can add to twice `rows`.
    pub(super) rows_max: u64,
    /// How many writes a feed that is far behind reads at once; it has twice as many in memory at most.
    pub(super) ahead: usize,
}

/// 32,768 rows: some thirty for each of a thousand busy accounts, so that pages are filled, and about 30 MB of memory.
/// 128 slices, eight slots or 256 rows each: by reckoning appends wait for a millisecond a slice, and one is due for
/// 128 rows. Read ahead are as many as a run puts into pages together: of some hundred bytes each, so that by reckoning
/// the two chunks of a feed take 20 to 30 MB.
pub(super) const SIZES: Sizes = Sizes { rows: 32_768, slices: 128, rows_max: 131_072, ahead: 32_768 };

// The slices of a run are enough for it, and are all due before as many rows are appended again (law G6).
const _: () = assert!(SIZES.slices as u64 * SIZES.rows_of_a_slice() >= SIZES.rows);
const _: () = assert!(2 * SIZES.slices as u64 * SIZES.rows_between() <= SIZES.rows);

impl Sizes {
    /// From how many rows on a slice is moved with every turn.
    const fn rows_late(self) -> u64 {
        3 * self.rows
    }

    const fn rows_of_a_slice(self) -> u64 {
        let rows = self.rows / self.slices as u64;
        if rows == 0 { 1 } else { rows }
    }

    /// How many rows are appended for each slice: a run of `rows` has two kinds of slices, and is over when as many
    /// rows were appended.
    const fn rows_between(self) -> u64 {
        self.rows_of_a_slice().div_ceil(2)
    }
}

/// How far the run under way is, as it stands in table `sorting`.
struct Run {
    /// Rows up to this position belong to it.
    through: u64,
    /// Those of slots below this one are in `writes`.
    slots: u16,
}

/// Sorts in on the writer thread, behind the appends of its turns.
pub(super) struct Settler {
    recent: Shared,
    sizes: Sizes,
    /// The position at which the next slice is due.
    next_at: u64,
    /// The position through which rows leave in the transaction under way.
    leaving: Option<u64>,
}

impl Settler {
    pub(super) fn new(recent: Shared, sizes: Sizes) -> Self {
        let next_at = recent.read().committed().last();
        Self { recent, sizes, next_at, leaving: None }
    }

    /// Moves a slice of the run under way. If there is none, one begins when `rows_min` rows are there, but not in the
    /// transaction in which the last rows of another one leave, since they are still in memory.
    fn move_slice(&mut self, connection: &Connection, rows_min: u64) -> rusqlite::Result<()> {
        let recent = self.recent.read();
        let committed = recent.committed();
        let settled = self.leaving.unwrap_or_else(|| committed.settled());
        let mut run = read_run(connection)?;
        if run.through <= settled {
            if self.leaving.is_some() || committed.len() < rows_min.max(1) {
                return Ok(());
            }
            run = Run { through: committed.last(), slots: 0 };
        }
        if run.slots < SLOTS {
            let end = SLOTS.min(run.slots + SLOTS.div_ceil(self.sizes.slices));
            return sort_in(connection, committed.through(run.through), SlotRange { start: run.slots, end });
        }
        let through = run.through.min(settled + self.sizes.rows_of_a_slice());
        settle(connection, committed.through(through), settled)?;
        self.leaving = Some(through);
        Ok(())
    }
}

impl Upkeep for Settler {
    fn within_turn(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let (last, len) = {
            let recent = self.recent.read();
            (recent.committed().last(), recent.committed().len())
        };
        while last >= self.next_at {
            // Set before, so that what fails is not tried again with every turn.
            self.next_at += self.sizes.rows_between();
            self.move_slice(connection, self.sizes.rows)?;
        }
        if len > self.sizes.rows_late() { self.move_slice(connection, self.sizes.rows) } else { Ok(()) }
    }

    fn after_turn(&mut self, is_kept: bool) {
        if let Some(through) = self.leaving.take().filter(|_| is_kept) {
            self.recent.write().forget_through(through);
        }
    }

    fn before_close(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        while self.recent.read().committed().len() > 0 {
            let slice = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let moved = self.move_slice(&slice, 1).and_then(|()| slice.commit());
            self.after_turn(moved.is_ok());
            moved?;
        }
        Ok(())
    }
}

fn read_run(connection: &Connection) -> rusqlite::Result<Run> {
    connection
        .prepare_cached("SELECT through, slots FROM sorting")?
        .query_row([], |row| Ok(Run { through: row.get(0)?, slots: row.get(1)? }))
}

/// Puts the rows of the next slots into `writes`, in the order of that table, and notes that they are there.
fn sort_in(connection: &Connection, rows: View<'_>, slots: SlotRange) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO writes (slot, stream, first_version, count, time, position, events)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (position, slot, recorded) in rows.sorted(slots) {
        insert.execute(params![
            slot,
            recorded.stream.as_bytes(),
            recorded.first_version.get(),
            recorded.events.count,
            recorded.time.as_micros(),
            position,
            &*recorded.events.json,
        ])?;
    }
    connection
        .prepare_cached("UPDATE sorting SET through = ?1, slots = ?2")?
        .execute(params![rows.last(), slots.end])
        .map(drop)
}

/// Moves what is left of rows behind position `settled` whose writes are sorted in: their positions and commits.
fn settle(connection: &Connection, rows: View<'_>, settled: u64) -> rusqlite::Result<()> {
    let leaving = || rows.rows().skip_while(|(position, _)| *position <= settled);
    let mut insert = connection
        .prepare_cached("INSERT INTO positions (position, slot, stream, first_version) VALUES (?1, ?2, ?3, ?4)")?;
    for (position, Row { recorded, .. }) in leaving() {
        let (slot, stream) = place(recorded.stream);
        insert.execute(params![position, slot, stream.as_bytes(), recorded.first_version.get()])?;
    }
    let mut commits: Vec<&StoredCommit> = leaving().filter_map(|(_, row)| row.commit.as_ref()).collect();
    commits.sort_unstable_by_key(|commit| commit.id);
    insert_commits(connection, &commits)?;
    connection.prepare_cached("DELETE FROM recent WHERE position <= ?1")?.execute([rows.last()]).map(drop)
}

fn insert_commits(connection: &Connection, commits: &[&StoredCommit]) -> rusqlite::Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT INTO commits (id, time, key, request, receipt) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for StoredCommit { id, time, key, receipt } in commits {
        insert.execute(params![
            id.as_bytes(),
            time.as_micros(),
            key.as_ref().map(|keyed| keyed.key.as_str()),
            key.as_ref().map(|keyed| keyed.request),
            &**receipt,
        ])?;
    }
    Ok(())
}
