//! Statements: what happened to an account, newest first, one [`Line`] for each event, with the balance after it.
//!
//! ST1  The lines of a page are the events of the versions from the page's [`Place`] downwards, without a gap, whatever
//!      commands do meanwhile.
//! ST2  The pages of a statement show every event up to the version at which its first page began, each once, and no
//!      event after it.
//! ST3  The balance of a line is that of the account at the line's version. Without the line's change it is the balance
//!      of the next line; the balance of the last line is its change. So the changes of all lines sum up to the balance
//!      of the first.
//! ST4  However far down a page is, it costs one read of the store, of no more events than the page may have lines; the
//!      first page also reads the account.
//!
//! Why they hold: versions have no gap (law S2 of [`shared::store`]) and events never change, so the n events up to
//! version k are those after version k − n, which is where the read begins (ST1, ST4). A read may begin after any
//! version, since a command writes one event to each of its accounts ([`Decided`](crate::account::Decided)), so that no
//! version lies inside a write. The next place is directly below the last line of a page, wherever the stream ends by
//! then (ST2). The first place is version and balance of one [`Account`](crate::account::Account), which is the fold of
//! its stream up to that version. From there the balances follow by subtraction, because an event adds the same to a
//! balance whatever the balance is (ST3). Nothing is read from the view.
//!
//! A place goes to the client and back as a cursor, and is not signed: who invents one sees balances that never were,
//! and nobody else does. It is refused if it is of another account, above the end of the stream, or if the opening of
//! the account shows that the balance cannot be right. A new primary may not show the end of the stream yet, so a
//! process that has the account in memory at that version or above asks the client to come again instead.
//!
//! A statement holds no names, so erasing them does not concern it.

mod line;
mod page;
#[cfg(test)]
mod tests;

pub(crate) use line::{Kind, Line};
pub(crate) use page::{NoPage, Page, Place};
