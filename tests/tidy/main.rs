//! The conventions of this code that a compiler cannot check.
//!
//! TI1  A file has at most 400 lines of at most 120 characters: a second noun in it needs a file of its own.
//! TI2  A word that the glossary replaces appears in no identifier and no comment.
//! TI3  A service depends on `shared` alone; every member takes the workspace's lints.
//! TI4  `lib.rs` is a table of contents. Every source file is part of the build.
//! TI5  Pure code has no clock, no runtime and nothing asynchronous.
//! TI6  No path of a single machine, no unfinished business, no broken link.
//! TI7  Every test and every source that docs/FAILURES.md names exists, and none of its rows is missing.
//! TI8  A numbered law has a unique name, and a row in the table of docs/LAWS.md.
//! TI9  The alarms of docs/OPERATIONS.md and of scripts/prometheus/alerts.yml are the same, of metrics that exist, and
//!      see a counter move that moves before it is first read.
//!
//! Every rule is a function from texts to faults, so that its test can plant the fault it must find.

mod alarms;
mod document;
mod failures;
mod laws;
mod manifest;
mod shape;
mod source;
mod words;

use std::fmt;
use std::path::Path;

use source::Source;

/// Something untidy, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn assert_tidy(faults: &[Fault]) {
    let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", list.len(), list.join("\n"));
}

#[test]
fn sources_keep_their_shape() {
    let sources = Source::all_under(root());
    for place in shape::PURE {
        assert!(sources.iter().any(|source| source.path.starts_with(place)), "{place} has moved: move the rule along");
    }
    assert_tidy(&shape::faults(&sources));
}

#[test]
fn sources_use_the_words_of_the_glossary() {
    let glossary = std::fs::read_to_string(root().join("docs/GLOSSARY.md")).unwrap();
    let banned = words::banned_by(&glossary);
    assert!(banned.len() >= 10, "the glossary's table was not understood");
    assert_tidy(&words::faults(&Source::all_under(root()), &banned));
}

#[test]
fn dependencies_point_in_one_direction() {
    assert_tidy(&manifest::faults(&manifest::members()));
}

#[test]
fn documents_hold_together() {
    assert_tidy(&document::faults(&Source::all_under(root()), &|path| root().join(path).exists()));
}

#[test]
fn what_can_break_is_shown_by_tests_that_exist() {
    let sources = Source::all_under(root());
    let document = sources.iter().find(|source| source.path == failures::PATH).expect("the document exists");
    assert_tidy(&failures::faults(document, &sources));
}

#[test]
fn every_law_has_a_name_of_its_own_and_a_row_in_the_table() {
    let sources = Source::all_under(root());
    let document = sources.iter().find(|source| source.path == laws::PATH).expect("the document exists");
    assert_tidy(&laws::faults(document, &sources));
}

#[test]
fn the_alarms_that_are_described_are_those_that_are_raised() {
    let sources = Source::all_under(root());
    let [document, rules] = [alarms::DOCUMENT, alarms::RULES]
        .map(|path| sources.iter().find(|source| source.path == path).expect("both exist"));
    assert_tidy(&alarms::faults(document, rules));
}
