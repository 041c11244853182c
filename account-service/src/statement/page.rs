use shared::coordinate::Version;
use shared::event::codec::DecodeError;
use shared::event::{NewEvent, Recorded, codec};
use shared::id::AccountId;
use shared::money::Money;

use super::Line;
use crate::account::Account;

/// How many hexadecimal digits a version and a balance have in a cursor.
const DIGITS: usize = 16;

/// Where a page begins: with the line of this version, after which the account had this balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) version: Version,
    pub(super) balance: Money,
}

/// A page of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The lines, newest first.
    pub(crate) lines: Vec<Line>,
    /// Where the next page begins; `None` if the last line is the opening of the account.
    pub(crate) next: Option<Place>,
}

/// Why there is no page at a place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPage {
    /// The stream ends below the place, or the read did not show its end yet.
    #[error("its events do not reach {0}")]
    Above(Version),
    /// The balance at the place cannot be that of the account.
    #[error("its events do not lead to its balance")]
    Unbalanced,
    /// Versions are missing.
    #[error("{found} follows {after}")]
    Gap { after: Version, found: Version },
    /// The stream holds something that this release does not understand.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Place {
    /// Where the statement of an account begins.
    pub(crate) const fn newest(account: &Account) -> Self {
        Self { version: account.version, balance: account.balance }
    }

    /// The version after which a page of at most `lines_max` lines is read.
    pub(crate) const fn after(self, lines_max: usize) -> Version {
        Version::new(self.version.get().saturating_sub(lines_max as u64))
    }

    /// The place as a client returns it, for the statement of this account.
    pub(crate) fn cursor(self, account: AccountId) -> String {
        format!("{}{:016x}{:016x}", account.uuid().simple(), self.version.get(), self.balance.get())
    }

    /// The place that a cursor names, if it was made for this account.
    pub(crate) fn read(cursor: &str, account: AccountId) -> Option<Self> {
        let digits = cursor.strip_prefix(&account.uuid().simple().to_string())?;
        let (version, balance) = digits.split_at_checked(DIGITS)?;
        let version = Version::new(u64::from_str_radix(version, 16).ok()?);
        let balance = Money::new(u64::from_str_radix(balance, 16).ok()?.cast_signed()).ok()?;
        let place = Self { version, balance };
        let is_version = (Version::EMPTY.next()..=Version::MAX).contains(&version);
        // One place has one spelling.
        (is_version && place.cursor(account) == cursor).then_some(place)
    }
}

impl Page {
    /// The page that begins at `from`, out of what the stream holds after [`Place::after`].
    pub(crate) fn read(from: Place, lines_max: usize, records: &[Recorded]) -> Result<Self, NoPage> {
        let mut events = events_after(from.after(lines_max), records)?;
        // Commands may have gone on since.
        events.retain(|(version, _)| *version <= from.version);
        if events.last().is_none_or(|(newest, _)| *newest < from.version) {
            return Err(NoPage::Above(from.version));
        }
        let (mut lines, mut place) = (Vec::with_capacity(events.len()), from);
        for (version, new) in events.iter().rev() {
            let line = Line::new(*version, new, place.balance);
            let balance = line.balance_before().ok_or(NoPage::Unbalanced)?;
            lines.push(line);
            place = Place { version: version.before(), balance };
        }
        let next = (place.version > Version::EMPTY).then_some(place);
        // Before it was opened an account had nothing.
        let is_right = next.is_some() || place.balance == Money::ZERO;
        if is_right { Ok(Self { lines, next }) } else { Err(NoPage::Unbalanced) }
    }
}

/// The events of writes that follow a version, each with its own.
fn events_after(after: Version, records: &[Recorded]) -> Result<Vec<(Version, NewEvent)>, NoPage> {
    let (mut events, mut reached) = (Vec::new(), after);
    for recorded in records {
        if recorded.first_version != reached.next() {
            return Err(NoPage::Gap { after: reached, found: recorded.first_version });
        }
        for new in codec::decode(&recorded.events)? {
            reached = reached.next();
            events.push((reached, new));
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use shared::clock::Timestamp;
    use shared::event::EncodedEvents;
    use shared::money::MONEY_MAX;

    const ACCOUNT: AccountId = AccountId::from_bytes([0xab; 16]);

    fn place(version: u64, minor_units: i64) -> Place {
        Place { version: Version::new(version), balance: Money::new(minor_units).unwrap() }
    }

    #[test]
    fn a_cursor_names_the_place_it_was_made_of() {
        let places = [place(1, 0), place(7, -1), place(Version::MAX.get(), MONEY_MAX), place(300, -MONEY_MAX)];
        for place in places {
            assert_eq!(Place::read(&place.cursor(ACCOUNT), ACCOUNT), Some(place));
        }
    }

    #[test]
    fn a_text_that_was_not_made_for_the_account_names_no_place() {
        let right = place(10, 11).cursor(ACCOUNT);
        let (account, digits) = right.split_at(32);
        let with = |version: &str, balance: &str| format!("{account}{version}{balance}");
        let (ten, eleven) = digits.split_at(DIGITS);
        assert_eq!(with(ten, eleven), right);
        let wrong = [
            String::new(),
            account.to_owned(),
            right[1..].to_owned(),
            format!("{right}0"),
            with(&ten.to_uppercase(), eleven),
            with("+00000000000000a", eleven),
            with(ten, "+00000000000000b"),
            with(ten, "000000000000000é"),
            with(&"0".repeat(DIGITS), eleven),
            with(&"f".repeat(DIGITS), eleven),
            with(ten, "7fffffffffffffff"),
            place(10, 11).cursor(AccountId::from_bytes([0xac; 16])),
        ];
        for text in wrong {
            assert_eq!(Place::read(&text, ACCOUNT), None, "{text}");
        }
    }

    #[test]
    fn a_stream_with_a_gap_or_an_unknown_event_has_no_page() {
        let page = |first_version: u64, json: &'static str| {
            let events = EncodedEvents { count: 1, json: Bytes::from_static(json.as_bytes()) };
            let first_version = Version::new(first_version);
            let recorded = Recorded { stream: ACCOUNT, first_version, time: Timestamp::EPOCH, events };
            Page::read(place(3, 0), 2, &[recorded])
        };
        assert!(matches!(page(3, "[]"), Err(NoPage::Gap { .. })));
        assert!(matches!(page(2, "[]"), Err(NoPage::Decode(_))));
    }
}
