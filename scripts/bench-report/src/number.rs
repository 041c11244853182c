//! Numbers for readers: three significant digits, commas between thousands.

/// A figure, short.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size < 1_000.0 && size.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1_000.0 => grouped(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number with three significant digits and commas between thousands.
fn grouped(value: f64) -> String {
    let unit = 10_f64.powf(value.abs().log10().floor() - 2.0);
    let digits = format!("{:.0}", (value / unit).round() * unit);
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |rest| ("-", rest));
    let mut grouped = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[test]
fn numbers_have_three_digits_that_count() {
    let numbers = [0.0, 25.0, 0.256, 9.994, 42.26, 123.4, 1_234.0, 20_049.9, 1_234_567.0].map(short);
    assert_eq!(numbers, ["0", "25", "0.26", "9.99", "42.3", "123", "1,230", "20,000", "1,230,000"]);
}
