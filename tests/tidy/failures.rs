//! TI7: everything that docs/FAILURES.md names exists.
//!
//! A test is named by a link whose text is its name and whose target is its file; a source file by its path in code
//! font, or by as much of its end as is needed to find it.

use std::path::Path;

use crate::Fault;
use crate::source::{Source, identifiers, split};

/// The document.
pub(crate) const PATH: &str = "docs/FAILURES.md";

/// The number of failures it lists.
const FAILURES: usize = 84;

/// The links of a line to Rust files: text and target, relative to the root.
fn tests(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split('[').skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once("](../")?;
        let (target, _) = rest.split_once(')')?;
        (is_rust(target) && !name.contains('/')).then_some((name, target))
    })
}

/// The paths of Rust files in code font.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|code| is_rust(code))
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// Whether a file has a test of this name, or a planted fault, which is named by a literal.
fn has(source: &Source, name: &str) -> bool {
    let literal = format!("\"{name}\"");
    source.text.contains(&literal) || identifiers(&split(&source.text).code).any(|(_, word)| word == name)
}

pub(crate) fn faults(document: &Source, sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        let mut fault = |what: String| faults.push(Fault { path: document.path.clone(), line: index + 1, what });
        for (name, target) in tests(line) {
            let found = sources.iter().find(|source| source.path == target);
            if !found.is_some_and(|source| has(source, name)) {
                fault(format!("{target} has no test {name}"));
            }
        }
        for path in paths(line) {
            let end = format!("/{path}");
            if !sources.iter().any(|source| source.path == path || source.path.ends_with(&end)) {
                fault(format!("there is no source {path}"));
            }
        }
        rows.extend(line.strip_prefix("| ").and_then(|row| row.split(' ').next()?.parse::<usize>().ok()));
    }
    if rows != (1..=FAILURES).collect::<Vec<_>>() {
        let what = format!("the rows are not numbered 1 to {FAILURES}: {rows:?}");
        faults.push(Fault { path: document.path.clone(), line: 1, what });
    }
    faults
}

#[test]
fn a_test_that_is_gone_and_a_row_that_is_missing_are_found() {
    let sources = [Source::new("a/src/b.rs", "// gone\nfn there() {}\nconst M: &str = \"planted\";")];
    let rows = |cell: &str| {
        let row = |number: usize| format!("| {number} | {}", if number == 3 { cell } else { "x" });
        (1..=FAILURES).map(row).collect::<Vec<_>>().join("\n")
    };
    let found = |text: &str| {
        let faults = faults(&Source::new("docs/FAILURES.md", text), &sources);
        faults.into_iter().map(|fault| fault.to_string()).collect::<Vec<_>>()
    };
    let sound = "[there](../a/src/b.rs), [planted](../a/src/b.rs), [b](../a/src/b.md), `src/b.rs`, `b.rs`";
    assert_eq!(found(&rows(sound)), [""; 0]);
    assert_eq!(found(&rows("[gone](../a/src/b.rs)")), ["docs/FAILURES.md:3: a/src/b.rs has no test gone"]);
    assert_eq!(found(&rows("[there](../a/src/c.rs)")), ["docs/FAILURES.md:3: a/src/c.rs has no test there"]);
    assert_eq!(found(&rows("`src/c.rs`")), ["docs/FAILURES.md:3: there is no source src/c.rs"]);
    assert_eq!(found(&rows("x").replace("| 7 |", "| 8 |")).len(), 1);
}
