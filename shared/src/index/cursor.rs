//! Cursors: the order, the account and the sort value of the last document of a page, as hexadecimal digits.

use crate::id::AccountId;
use crate::index::{Balance, Cursor, QueryError, Sort};
use crate::money::Money;
use crate::owner::Owner;

/// Where the account and the sort value begin; the order is the first byte.
const ACCOUNT_AT: usize = 1;
const VALUE_AT: usize = ACCOUNT_AT + 16;

/// A place in a list, between two documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) value: SortValue,
    pub(super) account: AccountId,
}

/// What a list is sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SortValue {
    Owner(Owner),
    Balance(Money),
}

/// The first byte of a cursor: which order it was made for.
const fn mark(sort: Sort) -> u8 {
    match sort {
        Sort::Owner => 1,
        Sort::OwnerDescending => 2,
        Sort::Balance => 3,
        Sort::BalanceDescending => 4,
    }
}

/// The place directly after a document.
pub(super) fn behind(last: &Balance, sort: Sort) -> Cursor {
    let value = match sort {
        Sort::Owner | Sort::OwnerDescending => SortValue::Owner(last.owner.clone()),
        Sort::Balance | Sort::BalanceDescending => SortValue::Balance(last.balance),
    };
    naming(&Place { value, account: last.id }, sort)
}

/// The cursor that names a place in this order.
pub(super) fn naming(place: &Place, sort: Sort) -> Cursor {
    let value = match &place.value {
        SortValue::Owner(owner) => owner.as_str().as_bytes().to_vec(),
        SortValue::Balance(balance) => balance.get().to_be_bytes().to_vec(),
    };
    let bytes = [&[mark(sort)][..], &place.account.as_bytes()[..], &value[..]].concat();
    Cursor(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

fn digit(half: u8) -> char {
    char::from_digit(u32::from(half), 16).expect("four bits make one digit")
}

/// The place a cursor names, if it was made for this order.
pub(super) fn read(cursor: &Cursor, sort: Sort) -> Result<Place, QueryError> {
    place(&cursor.0, sort).ok_or(QueryError::BadCursor)
}

fn place(text: &str, sort: Sort) -> Option<Place> {
    let bytes = bytes(text)?;
    let account = AccountId::from_bytes(bytes.get(ACCOUNT_AT..VALUE_AT)?.try_into().ok()?);
    if bytes[0] != mark(sort) {
        return None;
    }
    let value = &bytes[VALUE_AT..];
    let value = match sort {
        Sort::Owner | Sort::OwnerDescending => SortValue::Owner(Owner::new(std::str::from_utf8(value).ok()?).ok()?),
        Sort::Balance | Sort::BalanceDescending => {
            SortValue::Balance(Money::new(i64::from_be_bytes(value.try_into().ok()?)).ok()?)
        }
    };
    Some(Place { value, account })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let half = |digit: u8| char::from(digit).to_digit(16).and_then(|half| u8::try_from(half).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(half(*high)? << 4 | half(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_is_read_as_a_place_it_does_not_name(text in "0[1-4][0-9a-f]{28,60}") {
            for sort in [Sort::Owner, Sort::OwnerDescending, Sort::Balance, Sort::BalanceDescending] {
                if let Some(Place { value: SortValue::Balance(balance), account }) = place(&text, sort) {
                    let rest = format!("{}{:016x}", account.uuid().simple(), balance.get());
                    prop_assert_eq!(&text[2..], rest);
                }
            }
        }
    }
}
