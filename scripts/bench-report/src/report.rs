//! The report as Markdown.

use std::fmt::Write;

use crate::cost;
use crate::goal::{Goal, Goals, Limit, Row, Table};
use crate::number::short;
use crate::plot::Drawn;
use crate::result::{Results, Run, Value};
use crate::spread::Spread;

/// Figures measured elsewhere, for readers without Monstache at hand.
const PEERS: &str = include_str!("../peers.txt");

/// The prefixes of the sizes in the names of cases: what was varied, its value, and the value's label.
const SIZES: [(&str, &str, &str, &str); 4] = [
    ("events", "events in the store", "replayed_events_per_second", "a rebuild, events/s"),
    ("accounts", "accounts", "done_per_second", "commands/s"),
    ("partitions", "partitions", "visible_events_per_second", "draining, events/s"),
    ("connections", "connections", "done_per_second", "commands/s"),
];

/// Everything between the markers.
pub(crate) fn text(goals: &Goals, results: &Results, drawn: &[Drawn]) -> String {
    let mut parts = vec![place(&results.run)];
    parts.extend(goals.tables.iter().filter_map(|table| rows(table, goals, results)));
    parts.extend(cost::text(results));
    parts.push(limits(goals, results));
    parts.extend(sizes(results));
    parts.extend(drawn.iter().map(|Drawn { title, link }| format!("![{title}]({link})")));
    parts.push(format!("### Others\n\n{}", PEERS.trim()));
    parts.extend(failures(results));
    parts.push(commands(results));
    parts.join("\n\n")
}

fn place(run: &Run) -> String {
    let Run { date, commit, cpu, cores, memory_gib, kernel, servers, rounds, is_quick } = run;
    let warning = if *is_quick { "**A short trial: no figure here is worth anything.**\n\n" } else { "" };
    format!(
        "{warning}{cores} cores ({cpu}), {} GiB, Linux {kernel}. {servers}. Servers, services and the load all on these \
         cores, durability on. Commit {commit}, {date}, rounds: {rounds}. A figure is the median of its rounds, with \
         the lowest and the highest in brackets.",
        short(*memory_gib)
    )
}

/// A table, unless none of its rows was measured or is a goal.
fn rows(table: &Table, goals: &Goals, results: &Results) -> Option<String> {
    let of_row = |row: &Row| results.spread(&row.case, &row.value);
    let is_told = table.rows.iter().any(|row| row.goal.is_some() || of_row(row).is_some());
    let mut text =
        format!("### {}\n\n| | measured | goal | | of the lowest limit |\n|---|---|---|---|---|\n", table.title);
    let limits = goals.measured_limits(results);
    for row in &table.rows {
        let spread = of_row(row);
        let measured = spread.map_or_else(|| "not measured".to_owned(), |spread| spread.text(&row.unit));
        let goal = row.goal.map(|goal| goal_text(goal, &row.unit)).unwrap_or_default();
        let verdict = row.goal.map(|goal| verdict(goal, spread)).unwrap_or_default();
        let part = spread.and_then(|spread| row.part_of_limit(spread.median, &limits));
        let part = part.map(|(figure, part)| format!("{:.0} % ({})", part * 100.0, what(goals, figure)));
        let part = part.unwrap_or_default();
        writeln!(text, "| {} | {measured} | {goal} | {verdict} | {part} |", row.what)
            .expect("a string takes everything");
    }
    is_told.then(|| text.trim_end().to_owned())
}

fn goal_text(goal: Goal, unit: &str) -> String {
    let with_unit = |bound: f64| Spread { median: bound, min: bound, max: bound, rounds: 1 }.text(unit);
    match goal {
        Goal::AtLeast(bound) => format!("≥ {}", with_unit(bound)),
        Goal::AtMost(bound) => format!("≤ {}", with_unit(bound)),
    }
}

fn verdict(goal: Goal, spread: Option<Spread>) -> &'static str {
    match spread {
        None => "not measured",
        Some(spread) if goal.is_reached(spread.median) => "reached",
        Some(_) => "**not reached**",
    }
}

/// What a limit measures, in a word or two.
fn what<'a>(goals: &'a Goals, figure: &'a str) -> &'a str {
    goals.limits.iter().find(|limit| limit.figure == figure).map_or(figure, |limit| limit.what.as_str())
}

fn limits(goals: &Goals, results: &Results) -> String {
    let mut text = "### Limits: the same without the bank\n\n| | measured |\n|---|---|\n".to_owned();
    let measured = goals.measured_limits(results);
    for Limit { figure, what, unit } in &goals.limits {
        let value = measured.get(figure.as_str()).map_or_else(|| "not measured".to_owned(), |spread| spread.text(unit));
        writeln!(text, "| {what} | {value} |").expect("a string takes everything");
    }
    text.trim_end().to_owned()
}

/// The effect of size: a table for each quantity that was varied.
fn sizes(results: &Results) -> Vec<String> {
    let mut texts = Vec::new();
    for (varied, of, figure, shown) in SIZES {
        let figure = Value::Figure(figure.to_owned());
        let [servers, embedded] =
            ["servers", "embedded"].map(|place| results.sizes(&format!("{place}-{varied}-"), &figure));
        let all: std::collections::BTreeSet<u64> = servers.keys().chain(embedded.keys()).copied().collect();
        if all.is_empty() {
            continue;
        }
        let mut text = format!(
            "### {}: over the number of {of}\n\n| {of} | on servers | embedded |\n|---|---|---|\n",
            capital(shown)
        );
        for size in all {
            let cell = |values: &std::collections::BTreeMap<u64, Spread>| {
                values.get(&size).map(|spread| spread.text("")).unwrap_or_default()
            };
            #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
            let size_text = if size < 1_000 { size.to_string() } else { short(size as f64) };
            writeln!(text, "| {size_text} | {} | {} |", cell(&servers), cell(&embedded))
                .expect("a string takes everything");
        }
        texts.push(text.trim_end().to_owned());
    }
    texts
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn failures(results: &Results) -> Option<String> {
    let lines = results.failures.iter().map(|(name, reason)| format!("- {name}: {reason}"));
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| format!("### Rounds that broke\n\n{}", lines.join("\n")))
}

fn commands(results: &Results) -> String {
    let lines: Vec<String> =
        results.commands.iter().map(|(case, command)| format!("{case}: {}", command.trim())).collect();
    format!("### The command behind each figure\n\n```text\n{}\n```", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Round;

    fn results(rates: &[f64]) -> Results {
        let round = |rate: &f64| -> Round {
            serde_json::from_str(&format!(r#"{{"figures":{{"done_per_second":{rate}}}}}"#)).unwrap()
        };
        let limits = serde_json::from_str(r#"{"figures":{"http_answers_per_second":40000}}"#).unwrap();
        let cases = [("servers-commands", rates.iter().map(round).collect()), ("limits", vec![limits])];
        Results {
            cases: cases.into_iter().map(|(case, rounds)| (case.to_owned(), rounds)).collect(),
            commands: [("servers-commands".to_owned(), "bank bench commands\n".to_owned())].into(),
            failures: [("servers-hot.1.failed".to_owned(), "it broke".to_owned())].into(),
            ..Results::default()
        }
    }

    fn line(text: &str, start: &str) -> String {
        text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}")).to_owned()
    }

    #[test]
    fn a_goal_is_reached_missed_or_not_measured_and_says_so() {
        let goals = Goals::read().unwrap();
        let commands = "| commands, 128 connections, 1,000 accounts |";
        let reached = line(&text(&goals, &results(&[20_000.0, 30_000.0, 21_000.0]), &[]), commands);
        assert!(reached.contains("21,000/s (20,000–30,000) | ≥ 20,000/s | reached | 52 % ("), "{reached}");
        let missed = line(&text(&goals, &results(&[19_000.0]), &[]), commands);
        assert!(missed.contains("| 19,000/s | ≥ 20,000/s | **not reached** |"), "{missed}");
        let absent = line(&text(&goals, &results(&[1.0]), &[]), "| transfers, 128 connections |");
        assert!(absent.contains("| not measured | ≥ 12,000/s | not measured |"), "{absent}");
    }

    #[test]
    fn what_broke_and_what_was_run_is_told() {
        let text = text(&Goals::read().unwrap(), &results(&[1.0]), &[]);
        assert!(text.contains("- servers-hot.1.failed: it broke"), "{text}");
        assert!(text.contains("servers-commands: bank bench commands\n"), "{text}");
        assert!(!text.contains("Monstache on the same machine"), "{text}");
    }
}
