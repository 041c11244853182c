//! Money: integer minor units, checked arithmetic, no float anywhere.
//!
//! Both types stay within ±(2^53 − 1), the integers that every JSON reader represents exactly.

use std::fmt;
use std::ops::Neg;
use std::str::FromStr;

use serde::de::{self, Expected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::Text;

/// The largest number of minor units: 2^53 − 1.
pub const MONEY_MAX: i64 = 9_007_199_254_740_991;

/// Why a number is not money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// An amount moves at least one minor unit and at most [`MONEY_MAX`].
    #[error("must be a whole number of minor units from 1 to {MONEY_MAX}")]
    NotAnAmount,
    /// A balance or limit lies within ±[`MONEY_MAX`].
    #[error("must be a whole number of minor units from -{MONEY_MAX} to {MONEY_MAX}")]
    OutOfRange,
    /// Not an ISO 4217 code.
    #[error("must be an ISO 4217 currency code such as EUR")]
    NotACurrency,
}

/// The amount of a movement: 1 ..= [`MONEY_MAX`] minor units.
///
/// ```
/// use shared::money::{Amount, MONEY_MAX};
/// assert!(Amount::new(0).is_err());
/// assert!(Amount::new(MONEY_MAX).is_ok());
/// assert!(serde_json::from_str::<Amount>("1.0").is_err());
/// assert!(serde_json::from_str::<Amount>("1e2").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Amount(i64);

impl Amount {
    /// The amount of this many minor units.
    ///
    /// # Errors
    /// [`MoneyError::NotAnAmount`] outside 1 ..= [`MONEY_MAX`].
    pub const fn new(minor_units: i64) -> Result<Self, MoneyError> {
        if minor_units >= 1 && minor_units <= MONEY_MAX { Ok(Self(minor_units)) } else { Err(MoneyError::NotAnAmount) }
    }

    /// Reads an amount, or zero as `None`; for `deserialize_with`.
    ///
    /// # Errors
    /// The value is not a whole number of minor units, or lies outside 0 ..= [`MONEY_MAX`].
    pub fn or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let minor_units = deserializer.deserialize_i64(MinorUnits { min: 0 })?;
        Ok((minor_units > 0).then_some(Self(minor_units)))
    }

    /// Minor units.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(MinorUnits { min: 1 }).map(Self)
    }
}

/// What an account holds or may owe: −[`MONEY_MAX`] ..= [`MONEY_MAX`] minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many minor units.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`] outside ±[`MONEY_MAX`].
    pub const fn new(minor_units: i64) -> Result<Self, MoneyError> {
        if minor_units >= -MONEY_MAX && minor_units <= MONEY_MAX {
            Ok(Self(minor_units))
        } else {
            Err(MoneyError::OutOfRange)
        }
    }

    /// Minor units.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, or `None` if it leaves the range.
    #[must_use]
    pub fn plus(self, amount: Amount) -> Option<Self> {
        self.0.checked_add(amount.0).and_then(|sum| Self::new(sum).ok())
    }

    /// The difference, or `None` if it leaves the range.
    #[must_use]
    pub fn minus(self, amount: Amount) -> Option<Self> {
        self.0.checked_sub(amount.0).and_then(|rest| Self::new(rest).ok())
    }
}

/// The range is the same on both sides of zero, so this never leaves it.
impl Neg for Money {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl From<Amount> for Money {
    fn from(amount: Amount) -> Self {
        Self(amount.0)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(MinorUnits { min: -MONEY_MAX }).map(Self)
    }
}

/// Reads minor units from `min` to [`MONEY_MAX`]. Its errors state that range, since the sender knows money but not the
/// types of the program.
struct MinorUnits {
    min: i64,
}

impl Visitor<'_> for MinorUnits {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number of minor units from {} to {MONEY_MAX}", self.min)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
        if (self.min..=MONEY_MAX).contains(&number) {
            Ok(number)
        } else {
            Err(E::custom(format_args!("must be {}", &self as &dyn Expected)))
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
        // A number that does not fit is above every range.
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// An ISO 4217 code, three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code, such as `EUR`.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let letters: [u8; 3] = code.as_bytes().try_into().map_err(|_| MoneyError::NotACurrency)?;
        match iso_currency::Currency::from_code(code) {
            Some(_) => Ok(Self(letters)),
            None => Err(MoneyError::NotACurrency),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer)?.0.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stop_at_the_edge_of_the_range() {
        let one = Amount::new(1).unwrap();
        let most = Money::new(MONEY_MAX).unwrap();
        assert_eq!(most.plus(one), None);
        assert_eq!(most.minus(one), Money::new(MONEY_MAX - 1).ok());
        assert_eq!(Money::new(-MONEY_MAX).unwrap().minus(one), None);
        assert_eq!(-most, Money::new(-MONEY_MAX).unwrap());
    }

    #[test]
    fn only_whole_numbers_in_range_are_amounts() {
        for text in ["0", "-1", "1.5", "1.0", "1e3", "\"1\"", "9007199254740992", "null", "true", "-0", "NaN"] {
            assert!(serde_json::from_str::<Amount>(text).is_err(), "{text} was taken for an amount");
        }
    }

    #[test]
    fn whoever_sends_no_money_is_told_the_range_that_applies() {
        let amount = |json: &str| serde_json::from_str::<Amount>(json).map(|_| ());
        let or_zero = |json: &str| Amount::or_zero(&mut serde_json::Deserializer::from_str(json)).map(|_| ());
        let money = |json: &str| serde_json::from_str::<Money>(json).map(|_| ());
        for json in ["1.5", "\"5\"", "null", "-9007199254740992", "9007199254740992", "18446744073709551615"] {
            for (read, min) in [(amount(json), 1), (or_zero(json), 0), (money(json), -MONEY_MAX)] {
                let told = read.unwrap_err().to_string();
                let range = format!("a whole number of minor units from {min} to 9007199254740991");
                assert!(told.contains(&range), "{json}: {told}");
            }
        }
        assert_eq!(Amount::or_zero(&mut serde_json::Deserializer::from_str("0")).unwrap(), None);
        assert_eq!(Amount::or_zero(&mut serde_json::Deserializer::from_str("7")).unwrap(), Amount::new(7).ok());
    }

    #[test]
    fn currencies_are_iso_codes_in_capitals() {
        assert!("EUR".parse::<Currency>().is_ok());
        for code in ["eur", "EURO", "XXQ", "", "EU"] {
            assert!(code.parse::<Currency>().is_err(), "{code} was taken for a currency");
        }
    }
}
