//! Planted protocol faults: each is built into a copy of the workspace, and the simulation has to find it.
//!
//! A simulation that finds nothing may be looking in the wrong place. So each mutant breaks one rule that the bank
//! relies on, by one textual change, and survives only if no schedule notices. The product code knows nothing of it. A
//! simulation that fails by itself would find every mutant, so the copy is first played without one, and must survive.
//!
//! Run it with `cargo test --test mutants`, a single one with `cargo test --test mutants -- NAME`.

mod mutant;
mod workspace;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use mutant::{MUTANTS, Mutant};
use workspace::{Verdict, Workspace};

/// How many schedules a mutant may survive.
const SCHEDULES: u64 = 2_000;

/// What the copy without a mutant is called.
const UNCHANGED: &str = "without_a_mutant_nothing_is_found";

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let workspace = match Workspace::copy() {
        Ok(workspace) => workspace,
        Err(error) => {
            eprintln!("the workspace cannot be copied: {error}");
            return ExitCode::FAILURE;
        }
    };
    let is_wanted = |mutant: &&Mutant| wanted.is_empty() || wanted.iter().any(|name| name == mutant.name);
    let mutants: Vec<&Mutant> = MUTANTS.iter().filter(is_wanted).collect();
    let seeds: BTreeSet<u64> = mutants.iter().map(|mutant| mutant.seed).collect();
    let (mut passed, mut failed) = (0, 0);
    for mutant in std::iter::once(None).chain(mutants.into_iter().map(Some)) {
        let began = Instant::now();
        let (name, verdict) = match mutant {
            None => (UNCHANGED, workspace.judge_unchanged(&seeds)),
            Some(mutant) => (mutant.name, workspace.judge(mutant, SCHEDULES)),
        };
        let seconds = began.elapsed().as_secs();
        let is_right = matches!((mutant, &verdict), (None, Verdict::Survived) | (Some(_), Verdict::Found(_)));
        let word = if is_right { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({seconds} s) {verdict}");
        if is_right {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
