//! Text that is read without copying where possible.

use std::borrow::Cow;

use serde::Deserialize;

/// A text as it is read: borrowed from the input unless it contains escapes. serde always copies into a plain `Cow`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_with_escapes_is_copied() {
        let plain: Text<'_> = serde_json::from_str("\"Paulo\"").unwrap();
        assert!(matches!(plain.0, Cow::Borrowed("Paulo")));
        let escaped: Text<'_> = serde_json::from_str("\"Paul\\u006f\"").unwrap();
        assert!(matches!(&escaped.0, Cow::Owned(text) if text == "Paulo"));
    }
}
