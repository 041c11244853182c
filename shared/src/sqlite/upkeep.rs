use rusqlite::Connection;

/// Work on a file that its owner has done on the writer thread, in the transactions of others.
///
/// It rides behind the writes of a turn, so it costs no commit of its own and no sync; only behind a turn in which
/// something failed it has one for itself. What fails is told to the log and to nobody else, so it must be fit to be
/// done again.
pub trait Upkeep: Send + 'static {
    /// Called behind the writes of each turn, in their transaction. The writes are not committed yet, those of earlier
    /// turns are, and had their `committed` called.
    ///
    /// # Errors
    /// What SQLite says; then the turn is run again without it, and it is called again in the next one. The
    /// same happens after a panic.
    fn within_turn(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Called after each turn, whose writes are answered by then.
    ///
    /// `is_kept` says whether what it did within the turn is committed; if not, nothing of it is left.
    fn after_turn(&mut self, is_kept: bool);

    /// Called once, before the file is closed. It makes its own transactions.
    ///
    /// # Errors
    /// What SQLite says; the file is closed all the same.
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
