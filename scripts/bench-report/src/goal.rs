//! The goals, and the limits that apply to them: the data is in `goals.json`.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

use crate::result::{Results, Value};
use crate::spread::Spread;

/// Everything in the report, in its order.
#[derive(Debug, Deserialize)]
pub(crate) struct Goals {
    pub(crate) tables: Vec<Table>,
    pub(crate) limits: Vec<Limit>,
}

/// Rows that belong together.
#[derive(Debug, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

/// A value and its goal.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) case: String,
    pub(crate) value: Value,
    pub(crate) unit: String,
    pub(crate) goal: Option<Goal>,
    /// The limits that apply, by their figures: the lowest of them counts.
    #[serde(default)]
    pub(crate) limits: Vec<String>,
}

/// What a median is compared with.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// What can be reached without the bank.
#[derive(Debug, Deserialize)]
pub(crate) struct Limit {
    pub(crate) figure: String,
    pub(crate) what: String,
    pub(crate) unit: String,
}

impl Goals {
    pub(crate) fn read() -> anyhow::Result<Self> {
        serde_json::from_str(include_str!("../goals.json")).context("goals.json cannot be read")
    }

    /// Each limit that was measured, by its figure.
    pub(crate) fn measured_limits(&self, results: &Results) -> BTreeMap<&str, Spread> {
        let measured = |limit: &Limit| results.spread("limits", &Value::Figure(limit.figure.clone()));
        self.limits.iter().filter_map(|limit| Some((limit.figure.as_str(), measured(limit)?))).collect()
    }
}

impl Goal {
    pub(crate) fn is_reached(self, median: f64) -> bool {
        match self {
            Self::AtLeast(bound) => median >= bound,
            Self::AtMost(bound) => median <= bound,
        }
    }
}

impl Row {
    /// The lowest of the limits that apply, and the median as a part of it.
    pub(crate) fn part_of_limit<'a>(&self, median: f64, limits: &BTreeMap<&'a str, Spread>) -> Option<(&'a str, f64)> {
        let on_the_way = limits.iter().filter(|(figure, _)| self.limits.iter().any(|limit| limit == *figure));
        let (figure, lowest) = on_the_way.min_by(|(_, one), (_, other)| one.median.total_cmp(&other.median))?;
        Some((figure, median / lowest.median))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_on_the_way_is_one_that_is_measured() {
        let goals = Goals::read().unwrap();
        for row in goals.tables.iter().flat_map(|table| &table.rows) {
            for named in &row.limits {
                assert!(goals.limits.iter().any(|limit| limit.figure == *named), "{}: {named}", row.what);
            }
        }
    }

    #[test]
    fn the_lowest_limit_counts() {
        let goals = Goals::read().unwrap();
        let row = &goals.tables[0].rows[0];
        let limits: BTreeMap<&str, Spread> = [
            ("http_answers_per_second", 100.0),
            ("mongodb_batched_inserts_per_second", 50.0),
            ("nats_reads_per_second", 1.0),
        ]
        .into_iter()
        .map(|(figure, value)| (figure, Spread::of([value]).unwrap()))
        .collect();
        assert_eq!(row.part_of_limit(20.0, &limits), Some(("mongodb_batched_inserts_per_second", 0.4)));
        assert_eq!(row.part_of_limit(20.0, &BTreeMap::new()), None);
    }

    #[test]
    fn a_goal_is_reached_on_its_bound() {
        assert!(Goal::AtLeast(5.0).is_reached(5.0) && !Goal::AtLeast(5.0).is_reached(4.9));
        assert!(Goal::AtMost(5.0).is_reached(5.0) && !Goal::AtMost(5.0).is_reached(5.1));
    }
}
