//! The pages of a list: how long one may be, and the link to the next.

use axum::http::HeaderMap;
use axum::http::header::LINK;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::{AnswerHeader, Problem, Reason, whole_within};
use crate::index::{PAGE_DEFAULT, PAGE_MAX};

/// What [`next_link`] sends, as `/openapi.json` describes it.
pub const NEXT_PAGE: AnswerHeader = AnswerHeader::new("Link", "The next page, if there is one");

/// How many items a page has at most: 1 ..= [`PAGE_MAX`], or [`PAGE_DEFAULT`] if the client does not say.
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
