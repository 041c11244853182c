//! What the headers of a command say about how it is meant.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::coordinate::Version;
use shared::http::{NoParams, Problem, QueryParams, header};
use shared::store::{IdempotencyKey, KeyedRequest};

use crate::account::Command;
use crate::command::Request;

/// What the description says of `Idempotency-Key`.
pub(super) const KEY_DESCRIPTION: &str = "Makes the request safe to retry: it takes effect once. A refused command \
    leaves no trace: sent again under the same key it is decided anew.";

/// The headers with which a command may come.
#[derive(Debug)]
pub(super) struct Conditions {
    key: Option<IdempotencyKey>,
    if_match: Option<Version>,
    /// Whether the customer wants to see what came of it and not only its id.
    pub(super) representation: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        QueryParams::<NoParams>::from_request_parts(parts, state).await?;
        let key = header(&parts.headers, "idempotency-key")?
            .map(|text| {
                IdempotencyKey::new(text).map_err(|error| Problem::invalid("idempotency-key", error.to_string()))
            })
            .transpose()?;
        let if_match = header(&parts.headers, "if-match")?.map_or(Ok(None), version)?;
        Ok(Self { key, if_match, representation: wants_representation(&parts.headers) })
    }
}

/// The headers of a command whose account does not exist yet, so that no version of it can be asked for.
#[derive(Debug)]
pub(super) struct Unversioned(pub(super) Conditions);

impl<S: Send + Sync> FromRequestParts<S> for Unversioned {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.headers.contains_key("if-match") {
            return Err(Problem::invalid("if-match", "must be omitted: an account that is opened has no version yet"));
        }
        Conditions::from_request_parts(parts, state).await.map(Self)
    }
}

impl Conditions {
    /// The request of a command. `route` and `asked` are what has to be the same when the key is used again: the kind
    /// of the command, and everything it says.
    pub(super) fn request(self, command: Command, route: &'static str, asked: &impl Serialize) -> Request {
        let key = self.key.map(|key| KeyedRequest { key, request: digest(route, asked) });
        Request { command, key, if_match: self.if_match }
    }
}

/// The version of an entity tag, or none for the tag that every version matches.
fn version(tag: &str) -> Result<Option<Version>, Problem> {
    if tag == "*" {
        return Ok(None);
    }
    let refusal =
        || Problem::invalid("if-match", "must be the version of the account in quotation marks, such as \"7\"");
    let digits = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(refusal)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refusal());
    }
    digits.parse().map(|number| Some(Version::new(number))).map_err(|_| refusal())
}

/// Preferences that are not known are to be ignored (RFC 7240).
fn wants_representation(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|preference| preference.trim().eq_ignore_ascii_case("return=representation")))
}

/// Two requests that mean the same have the same digest, however their JSON is spelled.
fn digest(route: &'static str, asked: &impl Serialize) -> [u8; 32] {
    let meaning = serde_json::to_vec(&(route, asked)).expect("what was read from JSON becomes JSON");
    Sha256::digest(meaning).into()
}
