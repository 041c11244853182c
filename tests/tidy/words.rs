//! TI2: one word for one concept, as `docs/GLOSSARY.md` has it.

use crate::Fault;
use crate::source::{Source, identifiers, split};

/// A banned word, its replacement, and the folder where it is allowed.
pub(crate) struct Banned {
    parts: Vec<String>,
    instead: String,
    allowed_in: Option<String>,
}

/// Reads the glossary's table: the words in code font of its last column, replaced by those of its first.
pub(crate) fn banned_by(glossary: &str) -> Vec<Banned> {
    let mut banned = Vec::new();
    for row in glossary.lines().filter(|line| line.starts_with("| **")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let (Some(first), Some(last)) = (cells.first(), cells.last()) else { continue };
        let instead = first.replace("**", "").trim().to_owned();
        for item in last.split(',') {
            let mut quoted = item.split('`').skip(1).step_by(2);
            if let Some(word) = quoted.next() {
                let allowed_in = quoted.next().map(|folder| folder.trim_matches('/').to_owned());
                banned.push(Banned { parts: parts(word), instead: instead.clone(), allowed_in });
            }
        }
    }
    banned
}

/// The words an identifier is made of, in lower case and without the plural's s.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut previous = '_';
    for character in identifier.chars() {
        if character == '_' || (character.is_uppercase() && !previous.is_uppercase()) {
            parts.push(String::new());
        }
        if character != '_' {
            parts.last_mut().expect("there is one").extend(character.to_lowercase());
        }
        previous = character;
    }
    parts.retain(|part| !part.is_empty());
    for part in &mut parts {
        part.truncate(part.trim_end_matches('s').len());
    }
    parts
}

/// Code without the names after a dot: they are chosen where they are declared, perhaps in another project.
fn without_members(code: &str) -> String {
    let mut pieces = code.split('.');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |code, piece| code + " " + piece.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'))
}

pub(crate) fn faults(sources: &[Source], banned: &[Banned]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let text = split(&source.text);
        let code = without_members(&text.code);
        for (line, identifier) in identifiers(&code).chain(identifiers(&text.comments)) {
            let said = parts(identifier);
            for word in banned {
                let allowed = word.allowed_in.as_ref().is_some_and(|folder| source.folders().any(|f| f == folder));
                if !allowed && said.windows(word.parts.len()).any(|window| window == word.parts) {
                    let what = format!("`{identifier}`: say {} (docs/GLOSSARY.md)", word.instead);
                    faults.push(Fault { path: source.path.clone(), line, what });
                }
            }
        }
    }
    faults
}

#[test]
fn a_planted_synonym_is_found_wherever_it_hides() {
    let banned =
        banned_by("| **position** | where | `resume_token` (outside `mongo/`), cursor |\n| **slot** | x | `bucket` |");
    let found = |path: &str, text: &str| {
        let faults = faults(&[Source::new(path, text)], &banned);
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let expected = ["a.rs:2: `ResumeTokens`: say position (docs/GLOSSARY.md)"];
    assert_eq!(found("a.rs", "// fine\nstruct ResumeTokens;"), expected);
    assert_eq!(found("a.rs", "fn f() {} // into buckets").len(), 1);
    assert_eq!(found("a.rs", "let last_resume_token_seen = 1;").len(), 1);
    assert_eq!(found("a.rs", "options.\n    .buckets(8)"), [""; 0]);
    assert_eq!(found("shared/mongo/feed.rs", "let resume_token = 1;"), [""; 0]);
    assert_eq!(found("a.rs", "let cursor = \"resume_token\"; let resume = 1; let token = 2;"), [""; 0]);
}
