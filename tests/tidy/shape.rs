//! TI1, TI4, TI5 and TI6 for sources: size, tables of contents, purity, unfinished business.

use crate::Fault;
use crate::source::{Source, identifiers, split};

const LINES_MAX: usize = 400;
const WIDTH_MAX: usize = 120;

/// Texts and attributes, which the formatter does not break, may be somewhat wider.
const WIDTH_OF_TEXT_MAX: usize = 200;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils.rs", "util.rs", "helpers.rs", "common.rs", "misc.rs", "manager.rs"];

/// Folders and files without a clock, a runtime, or anything asynchronous.
pub(crate) const PURE: [&str; 11] = [
    "account-service/src/account/",
    "account-service/src/statement/line.rs",
    "account-service/src/statement/page.rs",
    "balance-service/src/fold/",
    "shared/src/coordinate.rs",
    "shared/src/event/",
    "shared/src/money.rs",
    "shared/src/owner.rs",
    "shared/src/partition.rs",
    "src/import/reader.rs",
    "src/import/report.rs",
];

/// What pure code does not contain.
const IMPURE: [&str; 6] = ["async", "await", "tokio", "Clock", "Instant", "SystemTime"];

/// Marks of unfinished code, each in two parts so that this file is not a fault itself.
const UNFINISHED: [&str; 6] = [
    concat!("todo", "!("),
    concat!("unimpl", "emented!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
];

/// Prefixes of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 3] = [concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Use", "rs/")];

pub(crate) fn faults(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources {
        let mut fault = |line: usize, what: String| faults.push(Fault { path: source.path.clone(), line, what });
        for (index, line) in source.text.lines().enumerate() {
            if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
                fault(index + 1, format!("{path} exists on one machine only"));
            }
            if !source.is_rust() {
                continue;
            }
            let width_max = if line.contains('"') { WIDTH_OF_TEXT_MAX } else { WIDTH_MAX };
            if line.chars().count() > width_max {
                fault(index + 1, format!("at most {width_max} characters a line"));
            }
            if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
                fault(index + 1, format!("{word} is unfinished business"));
            }
        }
        if source.is_rust() {
            of_rust(source, &mut fault);
            if !is_mounted(source, sources) {
                fault(1, "no mod statement mentions this file".to_owned());
            }
        }
    }
    faults
}

fn of_rust(source: &Source, fault: &mut impl FnMut(usize, String)) {
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        fault(lines, format!("at most {LINES_MAX} lines a file: give the second noun in it a file of its own"));
    }
    if EMPTY_NAMES.contains(&source.name()) {
        fault(1, "the name says nothing: name the file after the noun inside".to_owned());
    }
    let code = split(&source.text).code;
    if PURE.iter().any(|place| source.path.starts_with(place)) {
        for (line, word) in identifiers(&code).filter(|(_, word)| IMPURE.contains(word)) {
            fault(line, format!("pure code does not know `{word}`"));
        }
    }
    if source.name() == "lib.rs" {
        for statement in statements(&code) {
            let is_use = ["use ", "pub use "].iter().any(|start| statement.starts_with(start));
            let is_mod = ["mod ", "pub mod ", "pub(crate) mod "].iter().any(|start| statement.starts_with(start));
            if !is_use && (!is_mod || statement.contains('{')) {
                fault(1, format!("lib.rs is a table of contents, but holds `{}`", first_line(&statement)));
            }
        }
    }
}

fn first_line(statement: &str) -> &str {
    statement.lines().next().unwrap_or_default()
}

/// The statements of a file, without its attributes.
fn statements(code: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut depth = 0_usize;
    let mut chars = code.chars().peekable();
    while let Some(character) = chars.next() {
        match character {
            '#' if depth == 0 && matches!(chars.peek(), Some('[' | '!')) => {
                chars.next_if_eq(&'!');
            }
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(character),
            _ => {}
        }
    }
    plain.split(';').map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

/// Whether a `mod` statement makes the file part of a crate; the crates' own roots need none.
fn is_mounted(source: &Source, sources: &[Source]) -> bool {
    let Some((folder, name)) = source.path.rsplit_once('/') else { return source.path == "build.rs" };
    let is_root =
        matches!(name, "lib.rs" | "main.rs" | "suite.rs") || folder.ends_with("tests") || folder.ends_with("benches");
    if is_root || folder.ends_with("examples") {
        return true;
    }
    let (parent, module) = if name == "mod.rs" {
        folder.rsplit_once('/').unwrap_or(("", folder))
    } else {
        (folder, name.trim_end_matches(".rs"))
    };
    let mount = format!("mod {module};");
    let mounts = |candidate: &Source| candidate.is_rust() && candidate.text.contains(&mount);
    let is_beside = |candidate: &Source| candidate.path.rsplit_once('/').is_some_and(|(beside, _)| beside == parent);
    // A module of two crates at once is mounted by its path.
    let by_path = format!("#[path = \"../{}/{name}\"]", folder.rsplit('/').next().unwrap_or_default());
    let mounts_by_path = |candidate: &Source| candidate.is_rust() && candidate.text.contains(&by_path);
    sources.iter().any(|candidate| (is_beside(candidate) && mounts(candidate)) || mounts_by_path(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let module = path.trim_start_matches(folder).trim_start_matches('/').trim_end_matches(".rs").to_owned();
        let sources = [Source::new(path, text), Source::new(&format!("{folder}/main.rs"), &format!("mod {module};"))];
        faults(&sources).into_iter().filter(|fault| fault.path == path).map(|fault| fault.what).collect()
    }

    #[test]
    fn long_files_and_wide_lines_are_found() {
        assert_eq!(found("src/a.rs", &"//\n".repeat(400)), [""; 0]);
        assert_eq!(found("src/a.rs", &"//\n".repeat(401)).len(), 1);
        assert_eq!(found("src/a.rs", &"/".repeat(120)), [""; 0]);
        assert_eq!(found("src/a.rs", &"/".repeat(121)).len(), 1);
        assert_eq!(found("src/a.rs", &format!("//\"{}", "x".repeat(197))), [""; 0]);
        assert_eq!(found("src/a.rs", &format!("//\"{}", "x".repeat(198))).len(), 1);
    }

    #[test]
    fn a_runtime_in_pure_code_is_found_but_not_a_word_about_it() {
        assert_eq!(found("account-service/src/account/decide.rs", "// no async here\nfn f() {}"), [""; 0]);
        assert_eq!(
            found("account-service/src/account/decide.rs", "async fn f() {}"),
            ["pure code does not know `async`"]
        );
        assert_eq!(found("account-service/src/command/execute.rs", "async fn f() {}"), [""; 0]);
    }

    #[test]
    fn a_table_of_contents_holds_nothing_else() {
        let contents = "//! Doc with a fn in it.\n#![forbid(unsafe_code)]\n#[cfg(test)]\nmod a;\npub use a::{B, C};\n";
        assert_eq!(found("x/src/lib.rs", contents), [""; 0]);
        assert_eq!(found("x/src/lib.rs", "mod a;\npub fn run() {\n}").len(), 1);
        assert_eq!(found("x/src/lib.rs", "mod a { fn f() {} }\nstruct B;").len(), 1);
    }

    #[test]
    fn what_is_unfinished_unreachable_or_private_to_a_machine_is_found() {
        assert_eq!(found("src/a.rs", concat!("fn f() { to", "do!() }")).len(), 1);
        assert_eq!(found("src/a.rs", concat!("// see /ho", "me/somebody/notes")).len(), 1);
        assert_eq!(found("README.md", concat!("see /ho", "me/somebody/notes")).len(), 1);
        assert_eq!(found("src/utils.rs", "").len(), 1);
        let lonely = [Source::new("src/lonely.rs", ""), Source::new("src/main.rs", "fn main() {}")];
        assert_eq!(faults(&lonely).len(), 1);
        let shared = Source::new("tests/both/mod.rs", "");
        let mount = |path| Source::new("tests/one/main.rs", &format!("#[path = \"{path}\"]\nmod both;"));
        assert_eq!(faults(&[shared, mount("../both/mod.rs")]).len(), 0);
        let lonely = Source::new("tests/both/mod.rs", "");
        assert_eq!(faults(&[lonely, mount("../other/mod.rs")]).len(), 1);
    }
}
