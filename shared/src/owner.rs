//! An owner's name: text from outside, checked once, then trusted.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;

use crate::text::Text;

/// The longest name, in Unicode scalar values.
pub const OWNER_CHARS_MAX: usize = 128;

/// Why a text is not an owner's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// Empty, blank or too long.
    #[error("must have 1 to {OWNER_CHARS_MAX} characters that are not all blank")]
    Length,
    /// Control characters break logs and terminals; direction overrides make a name read as another.
    #[error("must not contain control characters or text direction overrides")]
    Character,
}

/// 1 to [`OWNER_CHARS_MAX`] characters in normalization form C, without control or direction-override characters.
///
/// Every account in memory has one, so short names, as most are, are stored inline and not on the heap.
#[derive(Clone, PartialEq, Eq)]
pub struct Owner(Name);

/// The longest name that is stored inline, in bytes: it makes an [`Owner`] no larger than a long name does.
const SHORT_BYTES_MAX: usize = 22;

#[derive(Clone, PartialEq, Eq)]
enum Name {
    Short { length: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Arc<str>),
}

impl Owner {
    /// Checks and normalizes a name.
    ///
    /// # Errors
    /// [`OwnerError`] says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, OwnerError> {
        // A character takes at most four bytes, so a text beyond that is refused before it is normalized.
        if text.len() > OWNER_CHARS_MAX * 4 || text.trim().is_empty() {
            return Err(OwnerError::Length);
        }
        if text.chars().any(is_forbidden) {
            return Err(OwnerError::Character);
        }
        if text.is_ascii() {
            // ASCII is already in the normalization form, and each byte is a character.
            return if text.len() <= OWNER_CHARS_MAX { Ok(Self(Name::new(text))) } else { Err(OwnerError::Length) };
        }
        let name: String = text.nfc().collect();
        if name.chars().count() > OWNER_CHARS_MAX {
            return Err(OwnerError::Length);
        }
        Ok(Self(Name::new(&name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Name {
    fn new(name: &str) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        let (Some(place), Ok(length)) = (bytes.get_mut(..name.len()), u8::try_from(name.len())) else {
            return Self::Long(name.into());
        };
        place.copy_from_slice(name.as_bytes());
        Self::Short { length, bytes }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Short { length, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).expect("the bytes of a text are a text")
            }
            Self::Long(name) => name,
        }
    }
}

/// By code point, also between short and long names.
impl Ord for Owner {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Owner {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Names are personal data: debug output, and so logs, show only that there is one.
impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner(…)")
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&Text::deserialize(deserializer)?.0).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_normalized() {
        assert_eq!(Owner::new("Zoe\u{0308}").unwrap().as_str(), "Zo\u{eb}");
        assert!(Owner::new(&"x".repeat(128)).is_ok());
        assert_eq!(Owner::new(&"x".repeat(129)), Err(OwnerError::Length));
        assert_eq!(Owner::new(" \u{a0} "), Err(OwnerError::Length));
    }

    #[test]
    fn a_name_of_any_length_is_the_name_that_was_given() {
        for length in 1..=OWNER_CHARS_MAX {
            for letter in ["x", "\u{eb}", "\u{1f3e6}"] {
                let name = letter.repeat(length);
                assert_eq!(Owner::new(&name).unwrap().as_str(), name);
            }
        }
    }

    #[test]
    fn a_plain_name_is_normalized_as_it_stands() {
        let plain: String = (' '..='~').collect();
        assert_eq!(Owner::new(&plain).unwrap().as_str(), plain.nfc().collect::<String>());
    }

    #[test]
    fn an_owner_is_no_larger_than_a_long_name_makes_it() {
        assert_eq!(size_of::<Owner>(), 24);
    }

    #[test]
    fn names_that_could_forge_a_line_or_turn_text_around_are_refused() {
        for text in ["a\0b", "a\nb", "a\u{7f}", "\u{202e}abc", "a\u{2066}b", "a\u{85}b", "a\u{2028}b"] {
            assert_eq!(Owner::new(text), Err(OwnerError::Character), "{text:?}");
        }
    }

    #[test]
    fn a_name_does_not_reach_debug_output() {
        assert!(!format!("{:?}", Owner::new("Paulo").unwrap()).contains("Paulo"));
    }
}
