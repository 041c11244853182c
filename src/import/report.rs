//! What an import did, for people and for the exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::id::AccountId;

use super::client::{KEY_USED, Rejection};
use super::reader::Line;
use crate::exit::Exit;
use crate::number::grouped as n;
use crate::text::Text;

/// What becomes of rejected lines if the same import is started again.
const REJECTED_AGAIN: &str = "rejected lines leave no trace in the bank: if the import is repeated, they are sent \
    again, after all the accepted ones, and may then be posted";

/// Why the import that is started again does not help lines whose ids were used.
const USED_AGAIN: &str = "are never posted: other lines of this import, perhaps of another file of its name, have their \
    ids; give them ids of their own, or their file another --name, under which it gets accounts of its own";

/// Why the balances of accounts were not compared.
const UNCOMPARED: &str =
    "not compared, since they hold more than the lines of this file, and some of these were posted before:";

/// The result of an import.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    accounts_opened: u64,
    accounts_found: u64,
    played: u64,
    found: u64,
    /// What all the accounts hold at the end, in minor units.
    sum: i128,
    pub(crate) rejected: Vec<RejectedLine>,
    pub(crate) differences: Vec<Difference>,
    pub(crate) uncompared: Vec<Uncompared>,
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

/// An account that does not hold what its accepted lines lead to.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) account: Box<str>,
    id: AccountId,
    expected: i128,
    found: i64,
}

/// An account of which it cannot be told what it must hold.
#[derive(Debug)]
pub(crate) struct Uncompared {
    pub(crate) account: Box<str>,
    id: AccountId,
    found: i64,
}

impl Summary {
    pub(crate) fn count_account(&mut self, is_repeat: bool) {
        *(if is_repeat { &mut self.accounts_found } else { &mut self.accounts_opened }) += 1;
    }

    pub(crate) fn count_transaction(&mut self, is_repeat: bool) {
        *(if is_repeat { &mut self.found } else { &mut self.played }) += 1;
    }

    /// Compares what an account holds with what it must hold, if that can be told.
    pub(crate) fn compare(&mut self, account: Box<str>, id: AccountId, expected: Option<i128>, found: i64) {
        self.sum += i128::from(found);
        match expected {
            None => self.uncompared.push(Uncompared { account, id, found }),
            Some(expected) if expected != i128::from(found) => {
                self.differences.push(Difference { account, id, expected, found });
            }
            Some(_) => {}
        }
    }

    pub(crate) fn plus(mut self, other: Self) -> Self {
        self.accounts_opened += other.accounts_opened;
        self.accounts_found += other.accounts_found;
        self.played += other.played;
        self.found += other.found;
        self.sum += other.sum;
        self.rejected.extend(other.rejected);
        self.differences.extend(other.differences);
        self.uncompared.extend(other.uncompared);
        self
    }

    /// A balance that differs takes precedence over a line that the bank refused. One that was not compared is not
    /// wrong.
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
    let Summary { accounts_opened, accounts_found, played, found, sum, rejected, differences, uncompared } = summary;
    let accounts = accounts_opened + accounts_found;
    let transactions = played + found;
    let rate = (u128::from(transactions) + rejected.len() as u128) * 1_000 / took.as_millis().max(1);
    let mut line = |name: &str, value: String| text.line(format_args!("{name:<13} {value}"));
    line("accounts", format!("{} ({} opened, {} already there)", n(accounts), n(*accounts_opened), n(*accounts_found)));
    line("transactions", format!("{} ({} posted, {} already there)", n(transactions), n(*played), n(*found)));
    line("rejected", n(rejected.len()));
    line("sum", format!("{} cents", n(*sum)));
    line("balances", balances(summary, accounts));
    line("took", format!("{:.1} s, {} lines/s", took.as_secs_f64(), n(rate)));
    list_rejected(&mut text, rejected);
    list_differences(&mut text, differences);
    list_uncompared(&mut text, uncompared);
    text.into_string()
}

fn balances(summary: &Summary, accounts: u64) -> String {
    // Balances are compared without the lines that were rejected.
    let lines = if summary.rejected.is_empty() { "the file" } else { "the accepted lines" };
    let uncompared = summary.uncompared.len() as u64;
    let compared = match summary.differences.len() {
        0 if uncompared == 0 => return format!("all as in {lines}"),
        0 => format!("{} as in {lines}", n(accounts - uncompared)),
        differing => format!("{} differ from {lines}", n(differing)),
    };
    if uncompared == 0 { compared } else { format!("{compared}, {} not compared", n(uncompared)) }
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
    if rejected.iter().any(|line| !line.why.is_of_used_key()) {
        text.line(REJECTED_AGAIN);
    }
    if rejected.iter().any(|line| line.why.is_of_used_key()) {
        text.line(format_args!("lines rejected as {KEY_USED} {USED_AGAIN}"));
    }
}

fn list_differences(text: &mut Text, differences: &[Difference]) {
    let accounts = differences.iter().map(|Difference { account, id, expected, found }| {
        let (expected, found) = (n(*expected), n(*found));
        format!("account {account} ({id}) has {found} cents, not {expected}")
    });
    text.list("  ", accounts, differences.len() as u64);
}

fn list_uncompared(text: &mut Text, uncompared: &[Uncompared]) {
    if !uncompared.is_empty() {
        text.line(UNCOMPARED);
    }
    let accounts = uncompared
        .iter()
        .map(|Uncompared { account, id, found }| format!("account {account} ({id}) has {} cents", n(*found)));
    text.list("  ", accounts, uncompared.len() as u64);
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

    fn rejected(code: &str) -> RejectedLine {
        let why = Rejection { code: code.to_owned(), detail: "as planted".to_owned() };
        RejectedLine { line: 7, transaction: "t9".into(), why }
    }

    #[test]
    fn lines_whose_ids_were_used_are_not_said_to_be_posted_some_day() {
        let text_of = |codes: &[&str]| {
            let rejected = codes.iter().map(|code| rejected(code)).collect();
            render(&Summary { rejected, ..Summary::default() }, Duration::from_secs(1))
        };
        let (again, used) = ("and may then be posted\n", "lines rejected as idempotency_key_reused are never posted: ");
        let text = text_of(&[KEY_USED]);
        assert!(text.contains(used) && !text.contains(again), "{text}");
        let text = text_of(&["insufficient_funds"]);
        assert!(text.contains(again) && !text.contains(used), "{text}");
        let text = text_of(&["insufficient_funds", KEY_USED]);
        assert!(text.contains(&format!("{again}{used}")), "{text}");
    }

    #[test]
    fn an_account_that_differs_is_wrong_and_one_that_was_not_compared_is_named_only() {
        let id = AccountId::from_bytes([7; 16]);
        let mut summary = Summary { accounts_opened: 1, accounts_found: 2, ..Summary::default() };
        summary.compare("1".into(), id, Some(1_500), 1_500);
        summary.compare("2".into(), id, None, 1_700);
        assert_eq!((summary.exit(), summary.sum), (Exit::Done, 3_200));
        let text = render(&summary, Duration::from_secs(1));
        assert!(text.contains("\nbalances      2 as in the file, 1 not compared\n"), "{text}");
        assert!(text.ends_with(&format!("{UNCOMPARED}\n  account 2 ({id}) has 1,700 cents\n")), "{text}");

        summary.compare("3".into(), id, Some(5), 6);
        assert_eq!(summary.exit(), Exit::BalancesDiffer);
        let text = render(&summary, Duration::from_secs(1));
        assert!(text.contains("\nbalances      1 differ from the file, 1 not compared\n"), "{text}");
        assert!(text.contains(&format!("\n  account 3 ({id}) has 6 cents, not 5\n")), "{text}");
    }

    #[test]
    fn a_file_of_which_nothing_was_rejected_is_what_balances_are_compared_with() {
        let text = render(&Summary::default(), Duration::from_secs(1));
        assert!(text.contains("\nbalances      all as in the file\n"), "{text}");
    }
}
