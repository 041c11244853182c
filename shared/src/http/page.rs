//! The pages of a list: how long one may be, and the link to the next.

use axum::http::HeaderMap;
use axum::http::header::LINK;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use utoipa::PartialSchema;
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};

use super::{AnswerHeader, Problem, Reason, whole_within};
use crate::index::{PAGE_DEFAULT, PAGE_MAX};

/// What [`next_link`] sends, as `/openapi.json` describes it.
pub const NEXT_PAGE: AnswerHeader = AnswerHeader::new("Link", "The next page, if there is one");

/// How many items a page has at most: 1 ..= [`PAGE_MAX`], or [`PAGE_DEFAULT`] if the client does not say.
///
/// A parameter of this type is described with `#[param(inline)]`: parameters bring no named schemas with them.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit(usize);

impl Default for PageLimit {
    fn default() -> Self {
        Self(PAGE_DEFAULT)
    }
}

impl PageLimit {
    /// The number of items.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

impl<'de> Deserialize<'de> for PageLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = whole_within(deserializer, 1..=PAGE_MAX as u128)?;
        usize::try_from(limit).map(Self).map_err(D::Error::custom)
    }
}

impl PartialSchema for PageLimit {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(1_usize))
            .maximum(Some(PAGE_MAX))
            .default(Some(PAGE_DEFAULT.into()))
            .into()
    }
}

/// `Link: <…>; rel="next"` for the page after this one; `query` begins with its question mark.
///
/// # Errors
/// The path or the query has characters that no header has: a fault in the program, since both are percent-encoded.
pub fn next_link(path: &str, query: &str) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    let link = format!("<{path}{query}>; rel=\"next\"");
    headers.insert(LINK, link.parse().map_err(|_| Problem::new(Reason::Internal))?);
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_limit_is_described_as_it_is_read() {
        let schema = serde_json::to_value(PageLimit::schema()).unwrap();
        let [min, max] = ["minimum", "maximum"].map(|bound| schema[bound].as_u64().unwrap());
        for (limit, is_taken) in [(min - 1, false), (min, true), (max, true), (max + 1, false)] {
            assert_eq!(serde_json::from_value::<PageLimit>(json!(limit)).is_ok(), is_taken, "{limit}");
        }
        assert_eq!(schema["default"], json!(PageLimit::default().get()));
    }
}
