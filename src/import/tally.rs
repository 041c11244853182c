//! What an account must hold at the end of an import, as far as that can be told.
//!
//! An account that was there already may hold more than the lines of this file: another file of the same import, or any
//! client, may have used it. If none of its lines had been posted before, what it held then is what they are added to.
//! If some had, that balance includes an unknown part of them, and only an account of which nothing else is stored is
//! compared: its version says so, since every accepted line adds one.

use super::client::Account;

/// Counts the accepted lines of one account.
pub(crate) struct Tally {
    /// The account before the first line was sent.
    before: Account,
    accepted: u64,
    sum: i128,
    /// Whether a line had been posted by an earlier request, which may have been one of this run.
    has_repeats: bool,
}

impl Tally {
    /// The tally of an account that is like this before the first line is sent.
    pub(crate) fn since(before: Account) -> Self {
        Self { before, accepted: 0, sum: 0, has_repeats: false }
    }

    /// Counts an accepted line.
    pub(crate) fn count(&mut self, effect: i128, is_repeat: bool) {
        self.accepted += 1;
        self.sum += effect;
        self.has_repeats |= is_repeat;
    }

    /// What the account must hold when it is as given after the last line; `None` if that cannot be told.
    pub(crate) fn expected(&self, after: &Account) -> Option<i128> {
        if !self.has_repeats || self.before.version == Account::NEW.version {
            return Some(i128::from(self.before.balance) + self.sum);
        }
        (after.version <= Account::NEW.version + self.accepted).then_some(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an account must hold that was and is like this: balance and version.
    fn expected(before: (i64, u64), lines: &[(i128, bool)], after: (i64, u64)) -> Option<i128> {
        let account = |(balance, version)| Account { balance, version };
        let mut tally = Tally::since(account(before));
        for (effect, is_repeat) in lines {
            tally.count(*effect, *is_repeat);
        }
        tally.expected(&account(after))
    }

    #[test]
    fn a_second_file_adds_to_what_the_account_held() {
        assert_eq!(expected((100, 2), &[(50, false), (-30, false)], (120, 4)), Some(120));
        assert_eq!(expected((100, 2), &[(50, false)], (200, 4)), Some(150), "a line that counts twice is noticed");
        assert_eq!(expected((100, 2), &[], (100, 2)), Some(100), "every line was rejected");
    }

    #[test]
    fn an_account_with_nothing_but_the_lines_of_the_file_holds_their_sum() {
        assert_eq!(expected((70, 3), &[(50, true), (20, true), (5, false)], (75, 4)), Some(75));
        assert_eq!(expected((70, 3), &[(50, true), (20, true)], (70, 2)), Some(70), "and so if events are lost");
        // The answer to a line was lost, and the line sent again.
        assert_eq!(expected((0, 1), &[(50, true)], (100, 3)), Some(50), "a line that counts twice is noticed");
    }

    #[test]
    fn an_account_that_others_used_between_runs_is_not_compared() {
        assert_eq!(expected((170, 4), &[(50, true), (20, true)], (170, 4)), None);
        assert_eq!(expected((170, 4), &[(50, true), (20, false)], (190, 5)), None);
    }
}
