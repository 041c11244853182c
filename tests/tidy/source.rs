//! The project's own texts, and Rust's split into code and comments.

use std::path::Path;

/// Folders without files of ours.
const FOREIGN: [&str; 3] = ["target", "data", ".git"];

/// Suffixes of the names of our texts.
const TEXTS: [&str; 7] = [".rs", ".toml", ".md", ".yml", ".yaml", ".json", ".sql"];

/// One text; its path is relative to the root of the workspace and has forward slashes.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Every text of the project in the order of the paths.
    pub(crate) fn all_under(root: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        collect(root, "", &mut found);
        found.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(found.iter().any(|source| source.path == "src/main.rs"), "the sources were not found");
        found
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }

    pub(crate) fn is_document(&self) -> bool {
        self.extension() == "md"
    }

    fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// The file's name without folders.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The folders on the way to the file.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &str> {
        let folders = self.path.rsplit_once('/').map_or("", |(folders, _)| folders);
        folders.split('/').filter(|folder| !folder.is_empty())
    }
}

fn collect(root: &Path, folder: &str, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(root.join(folder)).expect("a folder of the project can be read") {
        let entry = entry.expect("a folder of the project can be listed");
        let name = entry.file_name().into_string().expect("names are Unicode");
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.path().is_dir() {
            if !FOREIGN.contains(&path.as_str()) {
                collect(root, &path, found);
            }
        } else if TEXTS.iter().any(|end| name.ends_with(end)) || path.starts_with("scripts/") {
            // A file that is not UTF-8 is not a text.
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                found.push(Source { path, text });
            }
        }
    }
}

/// Rust with its string and character literals blanked out, split in two texts of the same lines.
pub(crate) struct Split {
    pub(crate) code: String,
    pub(crate) comments: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    LineComment,
    BlockComment(usize),
    Text,
    RawText(usize),
}

/// Splits Rust. Knows just enough of the language to tell code, comments and literals apart.
pub(crate) fn split(text: &str) -> Split {
    let chars: Vec<char> = text.chars().collect();
    let mut split = Split { code: String::new(), comments: String::new() };
    let mut place = Place::Code;
    let mut at = 0;
    while at < chars.len() {
        let (next, taken) = step(place, &chars, at);
        for &character in &chars[at..at + taken] {
            let blank = if character == '\n' { '\n' } else { ' ' };
            let is_comment = matches!(next, Place::LineComment | Place::BlockComment(_)) || comment(place);
            split.code.push(if place == Place::Code && next == Place::Code && taken == 1 { character } else { blank });
            split.comments.push(if is_comment { character } else { blank });
        }
        place = next;
        at += taken;
    }
    split
}

fn comment(place: Place) -> bool {
    matches!(place, Place::LineComment | Place::BlockComment(_))
}

/// Where the text is after the characters at `at`, and how many of them belong to the step.
fn step(place: Place, chars: &[char], at: usize) -> (Place, usize) {
    let here = chars[at];
    let next = chars.get(at + 1).copied().unwrap_or(' ');
    match place {
        Place::Code => match here {
            '/' if next == '/' => (Place::LineComment, 2),
            '/' if next == '*' => (Place::BlockComment(1), 2),
            '"' => (Place::Text, 1),
            'r' if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => {
                let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
                let is_raw = chars.get(at + 1 + hashes) == Some(&'"');
                if is_raw { (Place::RawText(hashes), hashes + 2) } else { (Place::Code, 1) }
            }
            '\'' if next == '\\' => {
                let rest = chars[at + 3..].iter().take_while(|&&c| c != '\'').count();
                (Place::Code, (rest + 4).min(chars.len() - at))
            }
            '\'' if chars.get(at + 2) == Some(&'\'') => (Place::Code, 3),
            _ => (Place::Code, 1),
        },
        Place::LineComment => (if here == '\n' { Place::Code } else { place }, 1),
        Place::BlockComment(depth) => match (here, next) {
            ('*', '/') if depth == 1 => (Place::Code, 2),
            ('*', '/') => (Place::BlockComment(depth - 1), 2),
            ('/', '*') => (Place::BlockComment(depth + 1), 2),
            _ => (place, 1),
        },
        Place::Text => match here {
            '\\' => (place, 2.min(chars.len() - at)),
            '"' => (Place::Code, 1),
            _ => (place, 1),
        },
        Place::RawText(hashes) => {
            let ends = here == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
            if ends { (Place::Code, hashes + 1) } else { (place, 1) }
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The identifiers and words of a text with the numbers of their lines, from 1.
pub(crate) fn identifiers(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(move |word| (index + 1, word))
    })
}

#[test]
fn literals_are_blanked_and_comments_told_from_code() {
    let text =
        "let a = \"// no\"; // yes 'x\nlet b = r#\"in \" it\"#; /* c /* d */ e */ let f: &'a str = '\"'; g('\\'');";
    let Split { code, comments } = split(text);
    let words = |text: &str| identifiers(text).map(|(_, word)| word.to_owned()).collect::<Vec<_>>().join(" ");
    assert_eq!(words(&code), "let a let b let f a str g");
    assert_eq!(words(&comments), "yes x c d e");
    assert_eq!(code.lines().count(), 2);
}
