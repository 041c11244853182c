//! What an import did, for people and for the exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::id::AccountId;

use super::client::Rejection;
use super::reader::Line;
use crate::exit::Exit;
use crate::number::grouped as n;
use crate::text::Text;

/// What becomes of rejected lines if the same import is started again.
const REJECTED_AGAIN: &str = "rejected lines leave no trace in the bank: if the import is repeated, they are sent \
    again, after all the accepted ones, and may then be posted";

/// The result of an import.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    accounts_opened: u64,
    accounts_found: u64,
    played: u64,
    found: u64,
    /// What all the accounts hold at the end, in minor units.
    pub(crate) sum: i128,
    pub(crate) rejected: Vec<RejectedLine>,
    pub(crate) differences: Vec<Difference>,
}

/// A line the bank refused.
#[derive(Debug)]
pub(crate) struct RejectedLine {
    pub(crate) line: u64,
    transaction: Box<str>,
    why: Rejection,
}

impl RejectedLine {
    pub(crate) fn new(line: &Line, why: Rejection) -> Self {
        Self { line: line.number, transaction: line.transaction.clone(), why }
    }
}

/// An account that does not hold what its accepted lines add up to.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) account: Box<str>,
    pub(crate) id: AccountId,
    pub(crate) expected: i128,
    pub(crate) found: i64,
}

impl Summary {
    pub(crate) fn count_account(&mut self, is_repeat: bool) {
        *(if is_repeat { &mut self.accounts_found } else { &mut self.accounts_opened }) += 1;
    }

    pub(crate) fn count_transaction(&mut self, is_repeat: bool) {
        *(if is_repeat { &mut self.found } else { &mut self.played }) += 1;
    }

    pub(crate) fn plus(mut self, other: Self) -> Self {
        self.accounts_opened += other.accounts_opened;
        self.accounts_found += other.accounts_found;
        self.played += other.played;
        self.found += other.found;
        self.sum += other.sum;
        self.rejected.extend(other.rejected);
        self.differences.extend(other.differences);
        self
    }

    /// A balance that differs takes precedence over a line that the bank refused.
    pub(crate) fn exit(&self) -> Exit {
        if !self.differences.is_empty() {
            Exit::BalancesDiffer
        } else if !self.rejected.is_empty() {
            Exit::LinesRejected
        } else {
            Exit::Done
        }
    }
}

/// The summary as text.
pub(crate) fn render(summary: &Summary, took: Duration) -> String {
    let mut text = Text::default();
    let Summary { accounts_opened, accounts_found, played, found, sum, rejected, differences } = summary;
    let accounts = accounts_opened + accounts_found;
    let transactions = played + found;
    let rate = (u128::from(transactions) + rejected.len() as u128) * 1_000 / took.as_millis().max(1);
    let mut line = |name: &str, value: String| text.line(format_args!("{name:<13} {value}"));
    line("accounts", format!("{} ({} opened, {} already there)", n(accounts), n(*accounts_opened), n(*accounts_found)));
    line("transactions", format!("{} ({} posted, {} already there)", n(transactions), n(*played), n(*found)));
    line("rejected", n(rejected.len()));
    line("sum", format!("{} cents", n(*sum)));
    // Balances are compared without the lines that were rejected.
    let compared = if rejected.is_empty() { "the file" } else { "the accepted lines" };
    line(
        "balances",
        match differences.len() {
            0 => format!("all as in {compared}"),
            differing => format!("{} differ from {compared}", n(differing)),
        },
    );
    line("took", format!("{:.1} s, {} lines/s", took.as_secs_f64(), n(rate)));
    list_rejected(&mut text, rejected);
    list_differences(&mut text, differences);
    text.into_string()
}

fn list_rejected(text: &mut Text, rejected: &[RejectedLine]) {
    let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
    for line in rejected {
        *codes.entry(&line.why.code).or_default() += 1;
    }
    for (code, count) in codes {
        text.line(format_args!("rejected as {code}: {}", n(count)));
    }
    let lines = rejected.iter().map(|RejectedLine { line, transaction, why }| {
        format!("line {line}, transaction {transaction}: {}", why.detail)
    });
    text.list("  ", lines, rejected.len() as u64);
    if !rejected.is_empty() {
        text.line(REJECTED_AGAIN);
    }
}

fn list_differences(text: &mut Text, differences: &[Difference]) {
    let accounts = differences.iter().map(|Difference { account, id, expected, found }| {
        let (expected, found) = (n(*expected), n(*found));
        format!("account {account} ({id}) has {found} cents, its lines add up to {expected}")
    });
    text.list("  ", accounts, differences.len() as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::reader::Direction;
    use shared::money::Amount;

    #[test]
    fn a_summary_adds_up_and_says_what_was_refused() {
        let amount = Amount::new(5).unwrap();
        let line = Line { number: 7, transaction: "t9".into(), direction: Direction::Debit, amount };
        let why = Rejection { code: "insufficient_funds".to_owned(), detail: "holds 3".to_owned() };
        let mut first = Summary { sum: 1_200, ..Summary::default() };
        first.count_account(false);
        first.count_transaction(false);
        let mut second = Summary { sum: -200, rejected: vec![RejectedLine::new(&line, why)], ..Summary::default() };
        second.count_account(true);
        second.count_transaction(true);
        let summary = first.plus(second);
        assert!(matches!(summary.exit(), Exit::LinesRejected));
        assert_eq!(
            render(&summary, Duration::from_millis(1_500)),
            "accounts      2 (1 opened, 1 already there)\n\
             transactions  2 (1 posted, 1 already there)\n\
             rejected      1\n\
             sum           1,000 cents\n\
             balances      all as in the accepted lines\n\
             took          1.5 s, 2 lines/s\n\
             rejected as insufficient_funds: 1\n  \
               line 7, transaction t9: holds 3\n\
             rejected lines leave no trace in the bank: if the import is repeated, they are sent again, after all the \
             accepted ones, and may then be posted\n"
        );
    }

    #[test]
    fn a_file_of_which_nothing_was_rejected_is_what_balances_are_compared_with() {
        let text = render(&Summary::default(), Duration::from_secs(1));
        assert!(text.contains("\nbalances      all as in the file\n"), "{text}");
    }
}
