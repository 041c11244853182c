//! The whole bank on real servers, as it is operated: seven processes, four servers, customers who never stop, and
//! everything killed, frozen and cut off in turn.
//!
//! Every scenario takes the same course: a bank under a name of its own, customers and observers at work on it,
//! trouble, and the verdict: every acknowledged command is in the store once, money is conserved, every document is the
//! fold of its stream, no reader saw a version go back, nothing is parked and nothing is left behind.
//!
//! `./scripts/test --only cluster` builds the programs, starts servers of its own and runs all scenarios, one after the
//! other, except for `recovery`, which measures. `few_permissions` starts servers of its own beside them, which know
//! users. By hand, with servers that may be killed:
//!
//! ```sh
//! cargo build --workspace --all-features --bins --test cluster
//! ./scripts/servers up && eval "$(./scripts/servers env)"
//! cargo test --workspace --all-features --test cluster -- killed_services
//! ```
//!
//! The logs of the services are in `target/cluster-logs`, a folder for each scenario.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod alias;
mod busy;
mod cluster;
#[path = "../customers/mod.rs"]
mod customers;
mod failpoint;
mod guarded;
mod jobs;
mod load;
mod permissions;
mod pulse;
mod scenario;
mod server;
mod service;
mod tally;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::time::timeout;

use scenario::{MEASUREMENTS, SCENARIOS, Scenario};
use server::Server;
use tally::{Line, Tally};

/// How long a scenario may take: several times what the longest one needs on a slow machine.
const SCENARIO_MAX: Duration = Duration::from_mins(10);

/// The root of the workspace.
fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}

/// An interrupted run ends its services too.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
        code = play() => code,
    }
}

/// Plays the scenarios that the command line names, or those of a whole run, and shows what each has done.
async fn play() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(refusal) = refusal(&wanted).await {
        println!("{refusal}");
        return ExitCode::FAILURE;
    }
    let scenarios: Vec<&Scenario> = if wanted.is_empty() {
        SCENARIOS.iter().collect()
    } else {
        named().filter(|scenario| wanted.iter().any(|wanted| wanted == scenario.name)).collect()
    };
    let (mut passed, mut failed) = (0, 0);
    let (mut lines, total, began) = (vec![tally::head()], Tally::default(), Instant::now());
    for scenario in scenarios {
        let (began, tally) = (Instant::now(), Arc::new(Tally::default()));
        let is_passed = run(scenario, &tally).await;
        let word = if is_passed { "ok" } else { "FAILED" };
        println!("test {} ... {word} ({:.1} s)", scenario.name, began.elapsed().as_secs_f64());
        lines.push(Line(scenario.name, began.elapsed(), &tally).to_string());
        total.add_all(&tally);
        if is_passed {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    lines.push(Line("total", began.elapsed(), &total).to_string());
    println!("\n{}", lines.join("\n"));
    if let (true, 0, Some(shortfall)) = (wanted.is_empty(), failed, total.shortfall()) {
        println!("the run proves too little: {shortfall}");
        failed += 1;
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything that can be played by name.
fn named() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().chain(MEASUREMENTS)
}

/// Why the run must not begin; `None` if it may.
async fn refusal(wanted: &[String]) -> Option<String> {
    let names: Vec<&str> = named().map(|scenario| scenario.name).collect();
    if let Some(unknown) = wanted.iter().find(|wanted| !names.contains(&wanted.as_str())) {
        return Some(format!("there is no scenario {unknown}, only {}", names.join(", ")));
    }
    let foreign = Server::foreign().await;
    let told = || format!("a run kills and empties servers, and not all of these are its own:\n{foreign}");
    (!foreign.is_empty()).then(told)
}

/// Plays a scenario with all servers running, whatever the one before left behind.
async fn run(scenario: &Scenario, tally: &Arc<Tally>) -> bool {
    cluster::clear_logs(scenario.name);
    let play = async {
        // A server that does not start is a failure of the scenario, not the end of the run.
        for server in Server::ALL {
            server.up().await;
        }
        (scenario.play)(scenario.name, Arc::clone(tally)).await;
    };
    let played = timeout(SCENARIO_MAX, AssertUnwindSafe(play).catch_unwind()).await;
    if played.is_err() {
        println!("{} is not over after {SCENARIO_MAX:?}", scenario.name);
    }
    let is_passed = matches!(played, Ok(Ok(())));
    if !is_passed {
        println!("{}", cluster::tails(scenario.name));
    }
    is_passed
}
