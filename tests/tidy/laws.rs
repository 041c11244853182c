//! TI8: a numbered law has a unique name, and a row in the table of `docs/LAWS.md`.
//!
//! A law is defined by a line of documentation that begins with its name and two spaces, like those of this folder in
//! `main.rs`. A name is capital letters and a number.

use std::collections::BTreeMap;

use crate::Fault;
use crate::source::{Source, split};

/// The document with the table.
pub(crate) const PATH: &str = "docs/LAWS.md";

/// The letters and the number of a law's name.
fn parse(name: &str) -> Option<(&str, u32)> {
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name.strip_prefix(letters)?.parse().ok()?;
    let is_name = !letters.is_empty() && letters.chars().all(|c| c.is_ascii_uppercase());
    is_name.then_some((letters, number))
}

/// The name of the law that a line defines, if any.
fn defined(line: &str) -> Option<&str> {
    let documentation = line.trim_start().strip_prefix("//")?.strip_prefix(['!', '/'])?;
    let (name, _) = documentation.trim_start().split_once("  ")?;
    parse(name).map(|_| name)
}

/// Whether a row of the table, which begins as in `| X1–X6 |`, is about the law and leads to its file.
fn lists(row: &str, name: &str, path: &str) -> bool {
    let Some((range, _)) = row.strip_prefix("| ").and_then(|row| row.split_once(" |")) else { return false };
    let (first, last) = range.split_once('–').unwrap_or((range, range));
    let (Some(first), Some(law), Some(last)) = (parse(first), parse(name), parse(last)) else { return false };
    (first..=last).contains(&law) && first.0 == last.0 && row.contains(&format!("](../{path})"))
}

pub(crate) fn faults(document: &Source, sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut places = BTreeMap::<String, &str>::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for (index, line) in split(&source.text).comments.lines().enumerate() {
            let Some(name) = defined(line) else { continue };
            let mut fault = |what: String| faults.push(Fault { path: source.path.clone(), line: index + 1, what });
            if let Some(place) = places.get(name) {
                fault(format!("{place} has a law {name} already: take other letters"));
            } else {
                places.insert(name.to_owned(), &source.path);
            }
            if !document.text.lines().any(|row| lists(row, name, &source.path)) {
                fault(format!("law {name} has no row that leads here in the table of {PATH}"));
            }
        }
    }
    faults
}

#[test]
fn a_name_that_two_laws_have_and_a_law_without_a_row_are_found() {
    let table = "| laws | kept by |\n| X1–X2 | [a](../a.rs) |\n| AB1 | [b](../b.rs) |\n| Z1–Z9 | [c](../c.rs) |";
    let found = |path: &str, text: &str| {
        let sources = [Source::new("a.rs", "//! X1  One.\n//! X2  Two,\n//!     see AB1."), Source::new(path, text)];
        let faults = faults(&Source::new(PATH, table), &sources);
        faults.into_iter().map(|fault| fault.to_string()).collect::<Vec<_>>()
    };
    let sound = "    /// AB1  A law.\n/// X1: no law\n// X1  nor this\nconst T: &str = \"\n//! X1  nor this\";";
    assert_eq!(found("b.rs", sound), [""; 0]);
    let no_row = |path, name| format!("{path}:1: law {name} has no row that leads here in the table of {PATH}");
    assert_eq!(found("b.rs", "//! AB2  Beyond its row."), [no_row("b.rs", "AB2")]);
    assert_eq!(found("b.rs", "//! Z1  In the row of another file."), [no_row("b.rs", "Z1")]);
    let twice = "has a law X1 already: take other letters";
    assert_eq!(found("b.rs", "//! X1  Twice."), [format!("b.rs:1: a.rs {twice}"), no_row("b.rs", "X1")]);
}
