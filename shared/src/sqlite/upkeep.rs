use rusqlite::Connection;

/// Work on a file that its owner has done on the writer thread, between the transactions of others.
///
/// It stands between two turns, so nothing is under way in the file, and every write that was committed has had its
/// `committed` called. It makes its own transactions. What fails is told to the log and to nobody else, so it must be
/// fit to be done again.
pub trait Upkeep: Send + 'static {
    /// Called after each turn, whose writes are answered by then; the next turn waits for it.
    ///
    /// # Errors
    /// What SQLite says; it is called again after the next turn.
    fn after_turn(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Called once, before the file is closed.
    ///
    /// # Errors
    /// What SQLite says; the file is closed all the same.
    fn before_close(&mut self, connection: &Connection) -> rusqlite::Result<()>;
}

/// For a file that needs none.
pub(super) struct NoUpkeep;

impl Upkeep for NoUpkeep {
    fn after_turn(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    fn before_close(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }
}
