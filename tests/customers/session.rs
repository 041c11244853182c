//! The README's session with the bank, run as it is printed.
//!
//! In a ```` ```console ```` block a line that begins with `$ ` is a command, a backslash at its end continues it, and
//! what follows up to the next command is its output. `…` in an output stands for anything, such as an id.

use std::path::Path;
use std::process::Stdio;

use tokio::time::timeout;

use super::PATIENCE;
use super::program::without_settings;

/// Separates the outputs of two commands; 36 in octal.
const SEPARATOR: char = '\u{1e}';

#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: Vec<String>,
}

fn session_of(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_session = false;
    let mut is_continued = false;
    for line in document.lines() {
        if line.starts_with("```") {
            is_session = line == "```console";
        } else if is_session {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step { command: command.to_owned(), output: Vec::new() });
            } else if let Some(step) = steps.last_mut() {
                if is_continued {
                    step.command = format!("{}\n{line}", step.command);
                } else {
                    step.output.push(line.to_owned());
                }
            }
            is_continued = line.ends_with('\\');
        }
    }
    steps
}

/// Whether a text matches what was printed, where `…` stands for anything.
fn is_as_printed(printed: &str, text: &str) -> bool {
    let mut pieces = printed.split('…');
    let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, behind)) = rest.split_once(piece) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// Plays the session with the bank at these two addresses, and compares every output. `program` is the built `bank`.
pub(crate) async fn play(root: &Path, program: &Path, account_service: &str, balance_service: &str) {
    let program = program.display();
    let steps = session_of(&std::fs::read_to_string(root.join("README.md")).unwrap());
    assert!(steps.len() >= 8, "the session was not found");

    // `cargo run --release -- …` is the program that was built with this test; an import goes to the usual address.
    let elsewhere = format!("[ $1 != import ] || set -- \"$@\" --url {account_service}");
    let mut script = format!("cargo() {{ shift 3; {elsewhere}; '{program}' \"$@\"; }}\n");
    for step in &steps {
        script += &step.command;
        script += "\nprintf '\\036'\n";
    }
    let script = script
        .replace("localhost:8000", account_service.trim_start_matches("http://"))
        .replace("localhost:8030", balance_service.trim_start_matches("http://"));
    let mut shell = without_settings("bash");
    shell.args(["-u", "-c", &script]).env("no_proxy", "*").current_dir(root).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, shell.output()).await.expect("the session ends").expect("there is a bash");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));

    let outputs: Vec<&str> = stdout.split(SEPARATOR).collect();
    assert_eq!(outputs.len(), steps.len() + 1, "the session broke off; it needs curl and bash\n{stdout}\n{stderr}");
    for (Step { command, output: printed }, output) in steps.iter().zip(outputs) {
        let lines: Vec<&str> = output.trim_end().lines().collect();
        let is_same = lines.len() == printed.len() && printed.iter().zip(&lines).all(|(a, b)| is_as_printed(a, b));
        assert!(is_same, "$ {command}\nprinted: {printed:#?}\nfound: {lines:#?}\n{stderr}");
    }
}

#[test]
fn a_session_is_commands_and_their_outputs() {
    let document = "```sh\n$ no\n```\n```console\n$ a \\\n  b\nx\ny\n$ c\n```\n$ no\n";
    let step = |command: &str, output: &[&str]| Step {
        command: command.to_owned(),
        output: output.iter().map(|&line| line.to_owned()).collect(),
    };
    assert_eq!(session_of(document), [step("a \\\n  b", &["x", "y"]), step("c", &[])]);
}

#[test]
fn dots_stand_for_anything_and_the_rest_for_itself() {
    for text in ["{\"id\":\"7\",\"balance\":150}", "{\"id\":\"\",\"balance\":150}"] {
        assert!(is_as_printed("{\"id\":\"…\",\"balance\":150}", text));
    }
    assert!(!is_as_printed("{\"id\":\"…\",\"balance\":150}", "{\"id\":\"7\",\"balance\":151}"));
    assert!(!is_as_printed("ok", "ok then") && !is_as_printed("ok", "not ok") && is_as_printed("ok", "ok"));
    assert!(is_as_printed("a…b…c", "a1b2c") && !is_as_printed("a…b…c", "a1c2b"));
}
