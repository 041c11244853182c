//! Numbers for people.

use std::fmt::Display;

/// A whole number with commas between its thousands.
pub(crate) fn grouped(number: impl Display) -> String {
    let digits = format!("{number}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |rest| ("-", rest));
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [grouped(0), grouped(999), grouped(1_000), grouped(-3_924_614_280_i64)];
        assert_eq!(numbers, ["0", "999", "1,000", "-3,924,614,280"]);
    }
}
