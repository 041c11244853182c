use std::fmt;
use std::str::FromStr;

/// The longest name; within the servers' own limits on names it leaves room for suffixes.
const NAMESPACE_CHARS_MAX: usize = 32;

/// Separates several banks on the same servers: a lowercase letter, then lowercase letters, digits and hyphens.
///
/// These characters are allowed in the names of databases, streams, keys and indexes alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(String);

/// Why a text is not a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a lowercase letter followed by lowercase letters, digits or hyphens, at most {NAMESPACE_CHARS_MAX} \
     characters in all, such as bank-2"
)]
pub struct NamespaceError;

impl Namespace {
    /// The default namespace.
    pub const DEFAULT: &str = "bank";

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the projection: `balance`, or `<namespace>-balance` in a namespace other than the default.
    #[must_use]
    pub fn balance_alias(&self) -> String {
        if self.0 == Self::DEFAULT { "balance".to_owned() } else { format!("{}-balance", self.0) }
    }
}

impl FromStr for Namespace {
    type Err = NamespaceError;

    fn from_str(text: &str) -> Result<Self, NamespaceError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
        if starts_well && text.len() <= NAMESPACE_CHARS_MAX && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NamespaceError)
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_namespace_leaves_the_alias_bare() {
        assert_eq!(Namespace::DEFAULT.parse::<Namespace>().unwrap().balance_alias(), "balance");
        assert_eq!("test-7".parse::<Namespace>().unwrap().balance_alias(), "test-7-balance");
    }

    #[test]
    fn a_name_some_server_would_refuse_is_refused_first() {
        for text in ["", "Bank", "1bank", "-bank", "ba nk", "ba.nk", "ba/nk", "bänk", &"b".repeat(33)] {
            assert_eq!(text.parse::<Namespace>(), Err(NamespaceError), "{text}");
        }
    }
}
