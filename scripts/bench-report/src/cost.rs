//! Where the time goes: what each process spends on one command or one event.

use std::fmt::Write;

use crate::number::short;
use crate::result::{Results, Round};
use crate::spread::Spread;

/// The processes of a bank on servers: their names in the kernel and in the report.
const PROCESSES: [(&str, &str); 7] = [
    ("bank", "load"),
    ("account-service", "account-service"),
    ("mongod", "MongoDB"),
    ("forwarder", "forwarder"),
    ("nats-server", "NATS"),
    ("balance-service", "balance-service"),
    ("java", "Elasticsearch"),
];

/// The cases that are broken down, and the unit of their work.
const CASES: [(&str, &str); 8] = [
    ("servers-commands", "a command, the projection held back"),
    ("servers-hot", "a deposit to the one account, the projection held back"),
    ("servers-transfers", "a transfer, the projection held back"),
    ("servers-followed", "a command, and its way into the view"),
    ("servers-mixed", "the same at a fixed rate"),
    ("servers-drain", "an event of a backlog, 10,000 accounts"),
    ("servers-distinct", "an event of a backlog, each of another account"),
    ("servers-rebuild", "an event that is rebuilt, until the switch"),
];

/// A table with a row for each measured case; `None` if there is none.
pub(crate) fn text(results: &Results) -> Option<String> {
    let lines: Vec<String> = CASES.iter().filter_map(|(case, what)| line(what, results.cases.get(*case)?)).collect();
    let names: Vec<&str> = PROCESSES.iter().map(|(_, name)| *name).collect();
    (!lines.is_empty()).then(|| {
        format!(
            "### CPU by process\n\nMicroseconds of CPU for one unit of work, each the median of its rounds. A machine of \
             two cores has 2,000,000 of them a second, so what all processes take together says how much can be done \
             on it.\n\n| | {} | together |\n|{}\n{}",
            names.join(" | "),
            "---|".repeat(names.len() + 2),
            lines.join("\n")
        )
    })
}

fn line(what: &str, rounds: &[Round]) -> Option<String> {
    let cost = |process| Spread::of(rounds.iter().filter_map(|round| micros(round, process)));
    let costs: Vec<f64> =
        PROCESSES.iter().map(|(process, _)| cost(process).map(|spread| spread.median)).collect::<Option<_>>()?;
    let mut line = format!("| {what} |");
    for cost in costs.iter().chain([&costs.iter().sum()]) {
        write!(line, " {} |", short(*cost)).expect("a string takes everything");
    }
    Some(line)
}

/// What the processes of this name spent on one unit; `None` without a measurement.
fn micros(round: &Round, process: &str) -> Option<f64> {
    let busy = round.cpu.iter().filter(|busy| busy.name == process);
    // The sum of no numbers would be -0.
    let cores = busy.fold(0.0, |cores, busy| cores + busy.cores);
    (!round.cpu.is_empty()).then_some(cores * 1e6 / units_per_second(round)?)
}

fn units_per_second(round: &Round) -> Option<f64> {
    let figure = |name: &str| round.figures.get(name).copied();
    figure("done_per_second")
        .or_else(|| figure("visible_events_per_second"))
        // The CPU time of a rebuild is that until the switch.
        .or_else(|| Some(figure("replayed_events")? / figure("switched_seconds")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(figures: &str) -> Round {
        let cpu = r#"[{"name":"mongod","pid":1,"cores":0.5,"resident_bytes":1},{"name":"bank","pid":2,"cores":0.25}]"#;
        serde_json::from_str(&format!(r#"{{"figures":{{{figures}}},"cpu":{cpu}}}"#)).unwrap()
    }

    #[test]
    fn the_work_of_a_round_is_spread_over_what_it_did() {
        for figures in [
            r#""done_per_second":10000"#,
            r#""visible_events_per_second":10000"#,
            r#""replayed_events":20000,"switched_seconds":2"#,
        ] {
            let cost = |process| micros(&round(figures), process);
            assert_eq!((cost("mongod"), cost("bank"), cost("java")), (Some(50.0), Some(25.0), Some(0.0)), "{figures}");
        }
        assert_eq!(micros(&round(""), "mongod"), None);
    }

    #[test]
    fn a_case_is_one_line_and_what_was_not_measured_is_none() {
        let mut results = Results::default();
        assert_eq!(text(&results), None);
        results.cases.insert("servers-hot".to_owned(), vec![round(r#""done_per_second":10000"#)]);
        let text = text(&results).unwrap();
        let line = text.lines().last().unwrap();
        assert_eq!(line, format!("| {} | 25 | 0 | 50 | 0 | 0 | 0 | 0 | 75 |", CASES[1].1));
        let columns = |line: &str| line.matches('|').count();
        let table: Vec<usize> = text.lines().filter(|line| line.starts_with('|')).map(columns).collect();
        assert_eq!(table, [columns(line); 3]);
    }
}
