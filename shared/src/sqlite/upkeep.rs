use rusqlite::Connection;

/// Work on a file that its owner has done on the writer thread, in the transactions of its writes.
///
/// It runs after the writes of a turn, so it costs no commit and no sync of its own; only after a turn in which
/// something failed does it get a transaction to itself. Its failures are only logged, so it must be repeatable.
pub trait Upkeep: Send + 'static {
    /// Called after the writes of each turn, in their transaction. These writes are not committed yet; those of earlier
    /// turns are, and their `committed` was called.
    ///
    /// # Errors
    /// What SQLite reports; the turn is then run again without it, and it is called again in the next one. The same
    /// happens after a panic.
    fn within_turn(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Called after each turn, once its writes are answered.
    ///
    /// `is_kept` says whether what it did within the turn is committed; if not, nothing of it is left.
    fn after_turn(&mut self, is_kept: bool);

    /// Called once, before the file is closed. It makes its own transactions, and none after one that failed.
    ///
    /// # Errors
    /// What SQLite reports; the file is closed anyway.
    fn before_close(&mut self, connection: &Connection) -> rusqlite::Result<()>;
}

/// For a file that needs none.
pub(super) struct NoUpkeep;

impl Upkeep for NoUpkeep {
    fn within_turn(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    fn after_turn(&mut self, _: bool) {}

    fn before_close(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }
}
