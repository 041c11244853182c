//! A file of transactions as values, the lines of each account together. Pure: text in, statements out.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};

use csv::StringRecord;
use shared::money::{Amount, MONEY_MAX};

/// The columns, in order. `date` and `kind` are ignored: the file's order decides.
const COLUMNS: [&str; 6] = ["transaction_id", "account_id", "date", "direction", "kind", "amount_cents"];

/// The longest id: with the import's name it must fit into an idempotency key of 255 characters.
const ID_CHARS_MAX: usize = 64;

/// The most lines of a file: the whole file is held in memory, at about a hundred bytes a line.
const LINES_MAX: usize = 20_000_000;

/// Which way the money goes, as the account sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Into the account.
    Credit,
    /// Out of it.
    Debit,
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its line number in the file; the header is line 1.
    pub(crate) number: u64,
    /// The transaction's id in the file.
    pub(crate) transaction: Box<str>,
    pub(crate) direction: Direction,
    pub(crate) amount: Amount,
}

impl Line {
    /// What the line adds to the balance, in minor units.
    pub(crate) fn effect(&self) -> i128 {
        match self.direction {
            Direction::Credit => i128::from(self.amount.get()),
            Direction::Debit => -i128::from(self.amount.get()),
        }
    }
}

/// The lines of one account, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The account's id in the file.
    pub(crate) account: Box<str>,
    pub(crate) lines: Vec<Line>,
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It cannot be read at all.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is invalid.
    #[error("line {line}: {expected}")]
    Line {
        /// The number of the line, from 1.
        line: u64,
        /// What was expected there, and what was found.
        expected: String,
    },
}

/// Reads a whole file. The statements are in the order in which their accounts first appear.
pub(crate) fn read(text: impl Read) -> Result<Vec<Statement>, ReadError> {
    let mut records = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut statements: Vec<Statement> = Vec::new();
    let mut places: BTreeMap<Box<str>, usize> = BTreeMap::new();
    let mut transactions: HashSet<Box<str>> = HashSet::new();
    let mut record = StringRecord::new();
    check_header(&mut records, &mut record)?;
    while next(&mut records, &mut record)? {
        let number = line_of(&record);
        let (account, line) = parse(&record, number).map_err(|expected| ReadError::Line { line: number, expected })?;
        if !transactions.insert(line.transaction.clone()) {
            return Err(ReadError::Line { line: number, expected: repeated(&line.transaction) });
        }
        if transactions.len() > LINES_MAX {
            let expected = format!("a file may have at most {LINES_MAX} transactions: split it by account");
            return Err(ReadError::Line { line: number, expected });
        }
        let place = *places.entry(account.clone()).or_insert_with(|| {
            statements.push(Statement { account, lines: Vec::new() });
            statements.len() - 1
        });
        statements[place].lines.push(line);
    }
    Ok(statements)
}

fn repeated(transaction: &str) -> String {
    format!("transaction_id must be unique, but {transaction:?} is on an earlier line")
}

fn line_of(record: &StringRecord) -> u64 {
    record.position().map_or(1, csv::Position::line)
}

fn next(records: &mut csv::Reader<impl Read>, record: &mut StringRecord) -> Result<bool, ReadError> {
    let line = records.position().line();
    records.read_record(record).map_err(|error| {
        let text = error.to_string();
        if let csv::ErrorKind::Io(error) = error.into_kind() {
            return ReadError::Io(error);
        }
        ReadError::Line { line, expected: format!("must be CSV in UTF-8: {text}") }
    })
}

fn check_header(records: &mut csv::Reader<impl Read>, record: &mut StringRecord) -> Result<(), ReadError> {
    // A byte order mark, as spreadsheets write it, is not part of the first name.
    let is_header = next(records, record)?
        && record.len() == COLUMNS.len()
        && record.iter().zip(COLUMNS).all(|(found, column)| found.trim_start_matches('\u{feff}').trim() == column);
    if is_header {
        return Ok(());
    }
    let found: Vec<&str> = record.iter().collect();
    let expected = format!("must be the header {}, not {:?}", COLUMNS.join(","), found.join(","));
    Err(ReadError::Line { line: 1, expected })
}

fn parse(record: &StringRecord, number: u64) -> Result<(Box<str>, Line), String> {
    if record.len() != COLUMNS.len() {
        return Err(format!("must have the {} columns {}, not {}", COLUMNS.len(), COLUMNS.join(","), record.len()));
    }
    let transaction = id(COLUMNS[0], &record[0])?;
    let account = id(COLUMNS[1], &record[1])?;
    let direction = match &record[3] {
        "credit" => Direction::Credit,
        "debit" => Direction::Debit,
        other => return Err(format!("direction must be credit or debit, not {other:?}")),
    };
    let amount = record[5].parse().ok().and_then(|cents| Amount::new(cents).ok()).ok_or_else(|| {
        format!("amount_cents must be a whole number of cents from 1 to {MONEY_MAX}, not {:?}", &record[5])
    })?;
    Ok((account, Line { number, transaction, direction, amount }))
}

fn id(column: &str, text: &str) -> Result<Box<str>, String> {
    if text.is_empty() || text.len() > ID_CHARS_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{column} must have 1 to {ID_CHARS_MAX} visible ASCII characters, not {text:?}"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "transaction_id,account_id,date,direction,kind,amount_cents\n";

    fn read_lines(lines: &str) -> Result<Vec<Statement>, String> {
        read(format!("{HEADER}{lines}").as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_gathered_by_account_in_their_order() {
        let statements = read_lines(
            "1,b,2024-01-01,credit,cash,500\n2,a,2024-01-01,credit,cash,70\n3,b,2024-01-02,debit,\"fee, yearly\",200\n",
        )
        .unwrap();
        let accounts: Vec<&str> = statements.iter().map(|statement| &*statement.account).collect();
        assert_eq!(accounts, ["b", "a"]);
        let numbers: Vec<u64> = statements[0].lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [2, 4]);
        assert_eq!(statements[0].lines.iter().map(Line::effect).sum::<i128>(), 300);
    }

    #[test]
    fn a_bad_line_is_named_with_what_is_expected() {
        let good = "1,a,2024-01-01,credit,cash,500\n";
        for (bad, expected) in [
            ("2,a,2024-01-01,credit,cash,5.00\n", "line 3: amount_cents must be a whole number of cents"),
            ("2,a,2024-01-01,credit,cash,0\n", "line 3: amount_cents must be"),
            ("2,a,2024-01-01,credit,cash,-5\n", "line 3: amount_cents must be"),
            ("2,a,2024-01-01,credit,cash,9007199254740992\n", "line 3: amount_cents must be"),
            ("2,a,2024-01-01,in,cash,5\n", "line 3: direction must be credit or debit, not \"in\""),
            ("2,a,2024-01-01,credit,5\n", "line 3: must have the 6 columns"),
            ("1,a,2024-01-01,credit,cash,5\n", "line 3: transaction_id must be unique, but \"1\""),
            ("2,,2024-01-01,credit,cash,5\n", "line 3: account_id must have 1 to 64"),
            ("2,a b,2024-01-01,credit,cash,5\n", "line 3: account_id must have"),
        ] {
            let error = read_lines(&format!("{good}{bad}")).unwrap_err();
            assert!(error.starts_with(expected), "{bad:?} gave {error:?}");
        }
    }

    #[test]
    fn a_file_without_the_header_is_refused() {
        for text in ["", "1,a,2024-01-01,credit,cash,500\n", "transaction_id,account_id\n"] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 1: must be the header transaction_id,"), "{error}");
        }
        assert!(read(format!("\u{feff}{HEADER}").as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let mut bytes = HEADER.as_bytes().to_vec();
        bytes.extend(b"1,\xff,2024-01-01,credit,cash,500\n");
        assert!(read(&*bytes).unwrap_err().to_string().starts_with("line 2: must be CSV in UTF-8"));
    }
}
