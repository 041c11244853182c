//! Says what a value must be in its sender's terms, where serde names types of the program.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// How serde's messages about a wrong value begin.
const BEGINNINGS: [&str; 4] = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `"];

/// Turns serde's message about a value into a sentence about what it must be; its sender knows what it is.
pub(super) fn must_be(message: &str) -> Cow<'_, str> {
    let is_about_a_value = BEGINNINGS.iter().any(|beginning| message.starts_with(beginning));
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if is_about_a_value => format!("must be {}", plain(expected)).into(),
        _ => message.into(),
    }
}

/// What serde expects, without names of types.
fn plain(expected: &str) -> Cow<'_, str> {
    let (min, max): (i128, i128) = match expected {
        "i8" => (i8::MIN.into(), i8::MAX.into()),
        "i16" => (i16::MIN.into(), i16::MAX.into()),
        "i32" => (i32::MIN.into(), i32::MAX.into()),
        "i64" => (i64::MIN.into(), i64::MAX.into()),
        "u8" => (u8::MIN.into(), u8::MAX.into()),
        "u16" => (u16::MIN.into(), u16::MAX.into()),
        "u32" => (u32::MIN.into(), u32::MAX.into()),
        "u64" => (u64::MIN.into(), u64::MAX.into()),
        "a sequence" => return "a list".into(),
        "a map" => return "an object".into(),
        _ if expected.starts_with("struct ") => return "an object".into(),
        _ => return expected.into(),
    };
    format!("a whole number from {min} to {max}").into()
}

/// Reads a whole number within a range; its errors state the range.
///
/// # Errors
/// The value is not a whole number, or lies outside the range.
pub fn whole_within<'de, D: Deserializer<'de>>(deserializer: D, range: RangeInclusive<u128>) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(Whole(range))
}

struct Whole(RangeInclusive<u128>);

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if self.0.contains(&u128::from(number)) {
            Ok(number)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn told<'de, T: Deserialize<'de>>(json: &'de str) -> String {
        let Err(error) = serde_json::from_str::<T>(json) else { panic!("{json} was taken") };
        let error = error.to_string();
        must_be(error.rsplit_once(" at line ").unwrap().0).into_owned()
    }

    #[test]
    fn a_sender_is_told_what_a_value_must_be_and_no_type_of_the_program() {
        #[derive(Deserialize)]
        struct Order {}
        #[derive(Deserialize)]
        enum Color {
            Red,
            Blue,
        }
        assert_eq!(told::<u16>("-1"), "must be a whole number from 0 to 65535");
        assert_eq!(told::<i8>("1.5"), "must be a whole number from -128 to 127");
        assert_eq!(told::<u64>("\"a, expected b\""), "must be a whole number from 0 to 18446744073709551615");
        assert_eq!(told::<String>("5"), "must be a string");
        assert_eq!(told::<Vec<u8>>("{}"), "must be a list");
        assert_eq!(told::<Order>("null"), "must be an object");
        assert_eq!(told::<Color>("\"Green\""), "must be `Red` or `Blue`");
        assert_eq!(must_be("unknown field `a, expected b`"), "unknown field `a, expected b`");
    }

    #[test]
    fn a_number_of_a_range_is_told_the_range() {
        for json in ["0", "8", "-1", "1.5", "\"1\"", "null"] {
            let mut reader = serde_json::Deserializer::from_str(json);
            let error = whole_within(&mut reader, 1..=7).unwrap_err().to_string();
            assert!(error.contains("expected a whole number from 1 to 7"), "{json}: {error}");
        }
        assert_eq!(whole_within(&mut serde_json::Deserializer::from_str("7"), 1..=7).unwrap(), 7);
    }
}
