use rusqlite::Connection;

use super::Durability;
use super::open::begin_log_anew;
use super::turn::{Ending, roll_back};
use super::wal_check;

/// Whether frames that belong to no commit may lie behind the last one in a WAL that is checked (see [`wal_check`]):
/// what a commit that failed has left there, or one that a crash cut off. Nothing may be committed in front of them.
pub(super) struct Leftover {
    is_checked: bool,
    may_be: bool,
}

impl Leftover {
    /// What an earlier process may have left, unless the WAL was begun anew since.
    pub(super) fn of_opening(durability: Durability, is_log_new: bool) -> Self {
        let is_checked = wal_check::applies_to(durability);
        Self { is_checked, may_be: is_checked && !is_log_new }
    }

    /// Notes how a transaction ended.
    pub(super) fn note(&mut self, ending: &Ending) {
        self.may_be |= self.is_checked && !ending.is_committed();
    }

    /// Removes what may be there. While this fails, nothing may be committed: it is to be tried again before the next
    /// transaction.
    ///
    /// # Errors
    /// While the mover moves pages; when somebody reads the WAL for longer than a connection waits for him; or when the
    /// rest of the WAL cannot be moved, for example because the disk is full.
    pub(super) fn remove(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.may_be {
            // In case that failed behind the commit: a transaction that is still open would keep the WAL for ever.
            roll_back(connection);
            begin_log_anew(connection)?;
            self.may_be = false;
        }
        Ok(())
    }
}
