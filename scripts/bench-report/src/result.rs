//! The results of `scripts/bench`: a file for each round of each case, the command of each case, and the place.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::spread::Spread;

/// One round of one case, as `bank bench --json` writes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Round {
    pub(crate) figures: BTreeMap<String, f64>,
    latencies_ms: Vec<Latencies>,
    answers: BTreeMap<String, u64>,
    pub(crate) cpu: Vec<Busy>,
}

/// A process, and how much of a core it took.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Busy {
    pub(crate) name: String,
    pub(crate) cores: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Latencies {
    of: String,
    /// By their names, such as `p99`.
    #[serde(flatten)]
    percentiles: BTreeMap<String, f64>,
}

/// When, where and how everything was measured.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Run {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) cores: u32,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) servers: String,
    pub(crate) rounds: u32,
    /// Whether it was a short trial, whose figures are worth nothing.
    pub(crate) is_quick: bool,
}

/// One of the values of a round.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Value {
    /// A figure by its name.
    Figure(String),
    /// A percentile of latencies, in milliseconds.
    Latency { of: String, at: String },
    /// How many answers said something other than "done".
    NotDone,
    /// Of a case measured at several sizes: the cost of one thing at the largest size, divided by its cost at the
    /// smallest. The name is that of the figure that says how many there were a second.
    Growth(String),
}

/// All results.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) run: Run,
    /// The rounds of each case.
    pub(crate) cases: BTreeMap<String, Vec<Round>>,
    /// The command of each case.
    pub(crate) commands: BTreeMap<String, String>,
    /// What went wrong in rounds that have no result.
    pub(crate) failures: BTreeMap<String, String>,
}

impl Results {
    /// Reads a folder: `run.json`, `CASE.ROUND.json`, `CASE.command` and `CASE.ROUND.failed`.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut results = Self { run: json(&folder.join("run.json"))?, ..Self::default() };
        let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        names.sort();
        for name in names {
            let path = folder.join(&name);
            match name.split('.').collect::<Vec<_>>()[..] {
                [case, _, "json"] => results.cases.entry(case.to_owned()).or_default().push(json(&path)?),
                [_, _, "failed"] => drop(results.failures.insert(name.clone(), last_line(&path)?)),
                [case, "command"] => drop(results.commands.insert(case.to_owned(), fs::read_to_string(&path)?)),
                _ => {}
            }
        }
        ensure!(!results.cases.is_empty(), "{} holds no results: run scripts/bench first", folder.display());
        Ok(results)
    }

    /// The value over the rounds of a case; `None` where it was not measured.
    pub(crate) fn spread(&self, case: &str, value: &Value) -> Option<Spread> {
        if let Value::Growth(figure) = value {
            return self.growth(case, figure);
        }
        Spread::of(self.cases.get(case)?.iter().filter_map(|round| round.value(value)))
    }

    /// The sizes at which a case was measured, and the value at each. The names of the cases end with the sizes.
    pub(crate) fn sizes(&self, prefix: &str, value: &Value) -> BTreeMap<u64, Spread> {
        let sizes = self.cases.keys().filter_map(|case| Some((case, case.strip_prefix(prefix)?.parse().ok()?)));
        sizes.filter_map(|(case, size)| Some((size, self.spread(case, value)?))).collect()
    }

    fn growth(&self, prefix: &str, figure: &str) -> Option<Spread> {
        let sizes = self.sizes(prefix, &Value::Figure(figure.to_owned()));
        let ((small, few), (large, many)) = (sizes.first_key_value()?, sizes.last_key_value()?);
        (small < large).then(|| Spread::of([few.median / many.median]))?
    }
}

impl Round {
    fn value(&self, value: &Value) -> Option<f64> {
        match value {
            Value::Figure(name) => self.figures.get(name).copied(),
            Value::Latency { of, at } => {
                self.latencies_ms.iter().find(|row| row.of == *of)?.percentiles.get(at).copied()
            }
            Value::NotDone => Some(self.not_done()),
            Value::Growth(_) => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a round are far below 2^53")]
    fn not_done(&self) -> f64 {
        self.answers.iter().filter(|(answer, _)| *answer != "ok").map(|(_, count)| *count).sum::<u64>() as f64
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not what scripts/bench writes", path.display()))
}

fn last_line(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Round {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_round_is_read_as_the_bank_writes_it() {
        let round = round(
            r#"{"scenario":"hot","setup":{},"figures":{"done_per_second":7.0},"cpu":[],"check":null,
                "latencies_ms":[{"of":"answer","count":2,"p50":1.0,"p90":2.0,"p99":3.5,"p999":4.0,"max":5.0}],
                "answers":{"ok":2,"409":3,"unknown":1}}"#,
        );
        assert_eq!(round.value(&Value::Figure("done_per_second".to_owned())), Some(7.0));
        let latency = |of: &str| Value::Latency { of: of.to_owned(), at: "p99".to_owned() };
        assert_eq!((round.value(&latency("answer")), round.value(&latency("visible by id"))), (Some(3.5), None));
        assert_eq!(round.value(&Value::NotDone), Some(4.0));
    }

    #[test]
    fn growth_is_the_cost_at_the_largest_size_over_that_at_the_smallest() {
        let figure = |rate: &str| vec![round(&format!(r#"{{"figures":{{"rate":{rate}}}}}"#))];
        let sized = |sizes: &[(&str, &str)]| Results {
            cases: sizes.iter().map(|(case, rate)| ((*case).to_owned(), figure(rate))).collect(),
            ..Results::default()
        };
        let growth = Value::Growth("rate".to_owned());
        let grown = sized(&[("a-10000", "100"), ("a-1000000", "50"), ("a-x", "1"), ("b-1", "1")]);
        assert_eq!(grown.spread("a-", &growth), Spread::of([2.0]));
        assert_eq!(sized(&[("a-10000", "100")]).spread("a-", &growth), None);
    }

    #[test]
    fn a_folder_is_read_by_the_names_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "run.json",
            r#"{"date":"d","commit":"c","cpu":"x","cores":2,"memory_gib":1.5,"kernel":"k","servers":"s","rounds":2,"is_quick":true}"#,
        );
        assert!(Results::read(folder.path()).is_err());
        write("hot.1.json", r#"{"figures":{"rate":1}}"#);
        write("hot.2.json", r#"{"figures":{"rate":3}}"#);
        write("hot.command", "bank bench hot");
        write("cold.1.failed", "it began\nit broke\n\n");
        let results = Results::read(folder.path()).unwrap();
        assert_eq!(results.spread("hot", &Value::Figure("rate".to_owned())), Spread::of([1.0, 3.0]));
        assert_eq!((&*results.commands["hot"], &*results.failures["cold.1.failed"]), ("bank bench hot", "it broke"));
    }
}
