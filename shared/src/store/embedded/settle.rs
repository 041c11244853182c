//! Moves recent rows into the sorted tables, one slice at a time (laws G4 to G6 of the parent module).

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::recent::{Row, Shared, place};
use super::view::View;
use crate::partition::{SLOTS, SlotRange};
use crate::sqlite::Upkeep;
use crate::store::StoredCommit;

/// How many rows gather before they are sorted, in how many slices, and how many a feed reads ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// How many rows gather before a run begins. At most about twice as many are in memory, and are read again when the
    /// store is opened after its process was killed.
    pub(super) rows: u64,
    /// In how many slices a run sorts the writes, and then again in how many it moves the rest.
    pub(super) slices: u16,
    /// From how many rows on appends are refused: only if sorting has failed for long. Far above twice `rows` plus what
    /// the turn in which a run ends can add.
    pub(super) rows_max: u64,
    /// How many writes a feed that is far behind reads at once; it has at most twice as many in memory.
    pub(super) ahead: usize,
}

/// 32,768 rows: about thirty for each of a thousand busy accounts, so that pages are filled, and about 30 MB of memory.
/// 128 slices of eight slots or 256 rows each: appends wait for an estimated millisecond per slice, and one is due
/// every 128 rows. A feed reads ahead as many writes as a run puts into pages together: of a few hundred bytes each, so
/// its two chunks take an estimated 20 to 30 MB.
pub(super) const SIZES: Sizes = Sizes { rows: 32_768, slices: 128, rows_max: 131_072, ahead: 32_768 };

// The slices of a run suffice for it, and are all due before as many rows are appended again (law G6).
const _: () = assert!(SIZES.slices as u64 * SIZES.rows_of_a_slice() >= SIZES.rows);
const _: () = assert!(2 * SIZES.slices as u64 * SIZES.rows_between() <= SIZES.rows);

impl Sizes {
    /// From how many rows on every turn moves a slice.
    const fn rows_late(self) -> u64 {
        3 * self.rows
    }

    const fn rows_of_a_slice(self) -> u64 {
        let rows = self.rows / self.slices as u64;
        if rows == 0 { 1 } else { rows }
    }

    /// How many rows are appended per slice: a run of `rows` has two kinds of slices, and is over once as many rows
    /// were appended.
    const fn rows_between(self) -> u64 {
        self.rows_of_a_slice().div_ceil(2)
    }
}

/// The progress of the current run, as recorded in table `sorting`.
struct Run {
    /// Rows up to this position belong to it.
    through: u64,
    /// Those in slots below this one are in `writes`.
    slots: u16,
}

/// Sorts on the writer thread, after the appends of each turn.
pub(super) struct Settler {
    recent: Shared,
    sizes: Sizes,
    /// The position at which the next slice is due.
    next_at: u64,
    /// The position through which rows leave in the current transaction.
    leaving: Option<u64>,
}

impl Settler {
    pub(super) fn new(recent: Shared, sizes: Sizes) -> Self {
        let next_at = recent.read().committed().last();
        Self { recent, sizes, next_at, leaving: None }
    }

    /// Moves a slice of the current run. If there is none, one begins once there are `rows_min` rows, but not in the
    /// transaction in which the last rows of another run leave, since those are still in memory.
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
            // Set first, so that a slice that fails is not tried again with every turn.
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

/// Inserts the rows of the next slots into `writes`, in the order of that table, and records that they are there.
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

/// Moves the rest of the rows after position `settled`, whose writes are sorted already: their positions and commits.
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
