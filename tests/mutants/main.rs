//! Planted protocol faults: each is built into a copy of the workspace, and the simulation has to find it.
//!
//! A simulation that finds nothing may be looking in the wrong place. So each mutant breaks one rule on which the bank
//! rests, by one textual change, and survives only if no schedule notices. The product code knows nothing of it.
//!
//! Run it with `cargo test --test mutants`, a single one with `cargo test --test mutants -- NAME`.

mod mutant;
mod workspace;

use std::process::ExitCode;
use std::time::Instant;

use mutant::MUTANTS;
use workspace::{Verdict, Workspace};

/// How many schedules a mutant may survive.
const SCHEDULES: u64 = 2_000;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let workspace = match Workspace::copy() {
        Ok(workspace) => workspace,
        Err(error) => {
            eprintln!("the workspace cannot be copied: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for mutant in MUTANTS.iter().filter(|mutant| wanted.is_empty() || wanted.iter().any(|name| name == mutant.name)) {
        let began = Instant::now();
        let verdict = workspace.judge(mutant, SCHEDULES);
        let seconds = began.elapsed().as_secs();
        let word = if matches!(verdict, Verdict::Found(_)) { "ok" } else { "FAILED" };
        println!("test {} ... {word} ({seconds} s) {verdict}", mutant.name);
        match verdict {
            Verdict::Found(_) => passed += 1,
            Verdict::Survived | Verdict::Broken(_) => failed += 1,
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
