//! The result of several rounds.

use crate::number::short;

/// The median of some values, and their range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) rounds: usize,
}

impl Spread {
    /// `None` if there are no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let is_odd = values.len() % 2 == 1;
        let median = if is_odd { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, min, max, rounds: values.len() })
    }

    /// Such as `21,000 (19,800–22,100)`.
    pub(crate) fn text(&self, unit: &str) -> String {
        let unit = if unit.is_empty() || unit.starts_with('/') { unit.to_owned() } else { format!(" {unit}") };
        let median = format!("{}{unit}", short(self.median));
        if self.rounds == 1 { median } else { format!("{median} ({}–{})", short(self.min), short(self.max)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0, rounds: 3 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0, rounds: 2 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn one_round_has_no_spread() {
        assert_eq!(Spread::of([20_000.0, 21_000.0, 22_000.0]).unwrap().text("/s"), "21,000/s (20,000–22,000)");
        assert_eq!(Spread::of([7.5]).unwrap().text("ms"), "7.50 ms");
    }
}
