//! One SQLite file as an embedded backend uses it: one writer thread with group commit, readers on their own connections.
//!
//! Q1  A write is answered after the transaction it rode in was committed, and so fsynced where [`Durability::Full`].
//! Q2  Writes that wait while a transaction is under way share the next one; nobody waits for a timer.
//! Q3  A write that fails in itself changes nothing and spoils no other write of its transaction.
//! Q4  A file that is damaged, foreign or from a newer release is refused with a message that says so; nothing in it
//!     is changed.
