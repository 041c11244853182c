//! TI9: the alarms that docs/OPERATIONS.md describes are those that the rules for Prometheus raise, and their metrics
//! exist.
//!
//! An alarm is described by a row of a table that begins with its name in code font. It is raised by a rule that begins
//! with `- alert:` and has a line for each of [`KEYS`]. A rule for how much one of [`MOVE_AT_THE_START`] grew also asks
//! for the series that were not there before.

use std::collections::BTreeSet;

use shared::telemetry::metric::{
    ACCOUNTS_PARKED, AHEAD_OF_STORE, FORWARDER_POSITIONS_LOST, Kind, METRICS, Metric, PARTITIONS_RENEWED,
};

use crate::Fault;
use crate::source::{Source, identifiers};

/// The document.
pub(crate) const DOCUMENT: &str = "docs/OPERATIONS.md";

/// The rules.
pub(crate) const RULES: &str = "scripts/prometheus/alerts.yml";

/// What the name of every alarm begins with.
const ALARM: &str = "Bank";

/// What the names of our metrics begin with.
const METRIC: [&str; 2] = ["bank_", "http_"];

/// What every rule says.
const KEYS: [&str; 6] = ["expr", "for", "severity", "summary", "action", "runbook"];

/// Counters that move as soon as a process begins its work, before anybody has read them: Prometheus sees the first
/// step of such a series only as a series that is new and above zero.
const MOVE_AT_THE_START: [Metric; 4] = [ACCOUNTS_PARKED, AHEAD_OF_STORE, FORWARDER_POSITIONS_LOST, PARTITIONS_RENEWED];

/// What Prometheus makes of a distribution.
const OF_A_DISTRIBUTION: [&str; 3] = ["_bucket", "_count", "_sum"];

/// One rule, with the line it begins in.
struct Rule<'a> {
    name: &'a str,
    line: usize,
    entries: Vec<(&'a str, &'a str)>,
    /// All its lines: an expression may take several.
    text: String,
}

impl Rule<'_> {
    fn says(&self, wanted: &str) -> Option<&str> {
        let value = self.entries.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
        value.filter(|value| !value.is_empty())
    }
}

fn rules(text: &str) -> Vec<Rule<'_>> {
    let mut rules: Vec<Rule<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (key, value) = line.trim().split_once(':').unwrap_or_default();
        if key == "- alert" {
            rules.push(Rule { name: value.trim(), line: index + 1, entries: Vec::new(), text: String::new() });
        } else if let Some(rule) = rules.last_mut() {
            rule.entries.push((key, value.trim()));
            rule.text.push_str(line);
        }
    }
    rules
}

/// The alarms of the table with the numbers of their lines.
fn described(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let (name, _) = line.strip_prefix("| `")?.split_once("` |")?;
        name.starts_with(ALARM).then_some((index + 1, name))
    })
}

/// Whether Prometheus knows a metric by this name.
fn exists(name: &str) -> bool {
    METRICS.iter().any(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name == name,
        Kind::Seconds | Kind::Sizes => {
            name.strip_prefix(metric.name).is_some_and(|end| OF_A_DISTRIBUTION.contains(&end))
        }
    })
}

/// The name by which a link leads to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// What a rule must say to see the first step of a counter, if it asks how much this one grew and does not say it.
fn first_step_missed(rule: &Rule<'_>, counter: &str) -> Option<String> {
    let (_, rest) = rule.text.split_once(&format!("increase({counter}["))?;
    let (time, _) = rest.split_once(']')?;
    let first_step = format!("sum({counter} unless {counter} offset {time}) > 0");
    (!rule.text.contains(&first_step)).then(|| format!("{} does not say `{first_step}`", rule.name))
}

/// What a rule lacks.
fn lacks(rule: &Rule<'_>, document: &Source) -> Vec<String> {
    let missing = KEYS.iter().filter(|key| rule.says(key).is_none());
    let mut lacks: Vec<String> = missing.map(|key| format!("{} does not say `{key}`", rule.name)).collect();
    lacks.extend(MOVE_AT_THE_START.iter().filter_map(|counter| first_step_missed(rule, counter.name)));
    if let Some(runbook) = rule.says("runbook") {
        let headings = document.text.lines().filter(|line| line.starts_with('#'));
        let mut targets = headings.map(|line| format!("{}#{}", document.path, anchor(line.trim_start_matches('#'))));
        if !targets.any(|target| target == runbook) {
            lacks.push(format!("{runbook} does not exist"));
        }
    }
    lacks
}

pub(crate) fn faults(document: &Source, rules_of_all: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |source: &Source, line, what| faults.push(Fault { path: source.path.clone(), line, what });
    for source in [document, rules_of_all] {
        for (line, name) in identifiers(&source.text) {
            if METRIC.iter().any(|start| name.starts_with(start)) && !exists(name) {
                fault(source, line, format!("there is no metric {name}"));
            }
        }
    }
    let rules = rules(&rules_of_all.text);
    let mut raised = BTreeSet::new();
    for rule in &rules {
        for what in lacks(rule, document) {
            fault(rules_of_all, rule.line, what);
        }
        if !raised.insert(rule.name) {
            fault(rules_of_all, rule.line, format!("{} is there twice", rule.name));
        }
        if !described(&document.text).any(|(_, name)| name == rule.name) {
            fault(rules_of_all, rule.line, format!("{DOCUMENT} does not describe {}", rule.name));
        }
    }
    for (line, name) in described(&document.text) {
        if !raised.contains(name) {
            fault(document, line, format!("no rule raises {name}"));
        }
    }
    faults
}

#[test]
fn an_alarm_of_one_side_alone_and_a_metric_that_does_not_exist_are_found() {
    let rule = |name: &str, expr: &str| {
        let rest = format!("for: 1m\nseverity: warning\nsummary: s\naction: a\nrunbook: {DOCUMENT}#a-disk-is-full");
        format!("- alert: {name}\nexpr: {expr}\n{rest}\n")
    };
    let found = |rows: &[&str], rules: &str| {
        let rows: Vec<_> = rows.iter().map(|name| format!("| `{name}` | x |")).collect();
        let rows = rows.join("\n");
        let document = Source::new(DOCUMENT, &format!("### A disk is full\n| `no_alarm` | x |\n{rows}\n"));
        let faults = faults(&document, &Source::new(RULES, rules));
        faults.into_iter().map(|fault| fault.to_string()).collect::<Vec<_>>()
    };
    let sound = rule("BankA", "bank_lag_events > 1 and http_request_duration_seconds_count{a=\"b\"} > 0");
    assert_eq!(found(&["BankA"], &sound), [""; 0]);
    assert_eq!(found(&["BankA", "BankB"], &sound), [format!("{DOCUMENT}:4: no rule raises BankB")]);
    assert_eq!(found(&[], &sound), [format!("{RULES}:1: {DOCUMENT} does not describe BankA")]);
    assert_eq!(found(&["BankA"], &format!("{sound}{sound}")), [format!("{RULES}:8: BankA is there twice")]);
    for (expr, name) in [
        ("bank_lag", "bank_lag"),
        ("bank_lag_events_total", "bank_lag_events_total"),
        ("http_request_duration_seconds", "http_request_duration_seconds"),
    ] {
        assert_eq!(found(&["BankA"], &rule("BankA", expr)), [format!("{RULES}:2: there is no metric {name}")]);
    }
    for (key, value) in [("expr", "bank_lag_events > 1"), ("for", "1m"), ("action", "a")] {
        let without = rule("BankA", "bank_lag_events > 1").replace(&format!("{key}: {value}\n"), &format!("{key}:\n"));
        assert_eq!(found(&["BankA"], &without), [format!("{RULES}:1: BankA does not say `{key}`")]);
    }
    let grown = "sum(increase(bank_partitions_renewed_total[5m])) > 0";
    let first_step = "sum(bank_partitions_renewed_total unless bank_partitions_renewed_total offset 5m) > 0";
    let both = format!(">-\n  ({grown})\n  or ({first_step})");
    assert_eq!(found(&["BankA"], &rule("BankA", &both)), [""; 0]);
    let half = [format!("{RULES}:1: BankA does not say `{first_step}`")];
    assert_eq!(found(&["BankA"], &rule("BankA", grown)), half);
    assert_eq!(found(&["BankA"], &rule("BankA", &both.replace("offset 5m", "offset 9m"))), half);
    let astray = sound.replace("#a-disk", "#the-disk");
    assert_eq!(found(&["BankA"], &astray), [format!("{RULES}:1: {DOCUMENT}#the-disk-is-full does not exist")]);
}
