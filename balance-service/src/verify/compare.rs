use shared::index::Balance;

use super::report::{Fault, Finding};

/// Compares a document with the fold of the same version, field by field.
pub(super) fn compare(fold: &Balance, document: &Balance) -> Option<Finding> {
    let detail = first_difference(fold, document)?;
    Some(Finding { account: fold.id, fault: Fault::Diverged, detail, version: document.version })
}

fn first_difference(fold: &Balance, document: &Balance) -> Option<String> {
    // Destructured in full, so that a new field cannot be forgotten here.
    let Balance { id, event_id, owner, status, currency, balance, version, opened_at, updated_at } = document;
    let pairs = [
        ("id", fold.id.to_string(), id.to_string()),
        ("version", fold.version.to_string(), version.to_string()),
        ("balance", fold.balance.to_string(), balance.to_string()),
        ("status", fold.status.as_str().to_owned(), status.as_str().to_owned()),
        ("currency", fold.currency.to_string(), currency.to_string()),
        ("event_id", fold.event_id.to_string(), event_id.to_string()),
        ("opened_at", fold.opened_at.to_string(), opened_at.to_string()),
        ("updated_at", fold.updated_at.to_string(), updated_at.to_string()),
    ];
    for (field, expected, found) in pairs {
        if expected != found {
            return Some(format!("{field} is {found}, the store says {expected}"));
        }
    }
    // Personal data does not go into reports.
    (fold.owner != *owner).then(|| "owner differs from the store".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Timestamp;
    use shared::coordinate::Version;
    use shared::id::{AccountId, EventId};
    use shared::index::AccountStatus;
    use shared::money::Money;
    use shared::owner::Owner;

    #[test]
    fn every_changed_field_is_found_and_named_without_the_owners_name() {
        let right = Balance {
            id: AccountId::from_bytes([1; 16]),
            event_id: EventId::from_number(1),
            owner: Owner::new("Paulo").unwrap(),
            status: AccountStatus::Open,
            currency: "EUR".parse().unwrap(),
            balance: Money::new(50).unwrap(),
            version: Version::new(3),
            opened_at: Timestamp::from_micros(1),
            updated_at: Timestamp::from_micros(2),
        };
        assert_eq!(compare(&right, &right), None);
        let wrong = [
            ("balance", Balance { balance: Money::new(51).unwrap(), ..right.clone() }),
            ("status", Balance { status: AccountStatus::Closed, ..right.clone() }),
            ("currency", Balance { currency: "USD".parse().unwrap(), ..right.clone() }),
            ("event_id", Balance { event_id: EventId::from_number(2), ..right.clone() }),
            ("opened_at", Balance { opened_at: Timestamp::from_micros(9), ..right.clone() }),
            ("updated_at", Balance { updated_at: Timestamp::from_micros(9), ..right.clone() }),
            ("owner", Balance { owner: Owner::new("Mallory").unwrap(), ..right.clone() }),
        ];
        for (field, document) in wrong {
            let finding = compare(&right, &document).unwrap();
            assert!(finding.detail.starts_with(field), "{}", finding.detail);
            assert!(!finding.detail.contains("Mallory"));
        }
    }
}
