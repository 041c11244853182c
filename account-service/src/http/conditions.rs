//! What the headers of a command say about how it is meant.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::coordinate::Version;
use shared::http::{NoParams, Problem, QueryParams, header};
use shared::store::{IdempotencyKey, KeyedRequest};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ObjectBuilder, Required, Type};

use crate::account::Command;
use crate::command::Request;

/// What the description says of `Idempotency-Key`.
const KEY_DESCRIPTION: &str = "Makes the request safe to retry: it takes effect once. A refused command leaves no \
    trace: sent again under the same key it is decided anew.";

/// What the description says of `If-Match`.
const IF_MATCH_DESCRIPTION: &str = "Required version of the account, in quotation marks; if money goes from one \
    account to another, that of the paying one";

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

/// Without `Prefer`, which only one route heeds.
impl IntoParams for Conditions {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![described("Idempotency-Key", KEY_DESCRIPTION), described("If-Match", IF_MATCH_DESCRIPTION)]
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

impl IntoParams for Unversioned {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![described("Idempotency-Key", KEY_DESCRIPTION)]
    }
}

/// A header that may be omitted, as `/openapi.json` describes it.
fn described(name: &str, meaning: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
    let header = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::False);
    header.description(Some(meaning)).schema(Some(text)).build()
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

/// Only the first `return` counts; preferences and parameters that are not known are to be ignored (RFC 7240).
fn wants_representation(headers: &HeaderMap) -> bool {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| split_unquoted(line, ',')).map(preference);
    let wanted = preferences.find(|(name, _)| name.eq_ignore_ascii_case("return"));
    wanted.is_some_and(|(_, value)| value.eq_ignore_ascii_case("representation"))
}

/// Name and value of a preference, without its parameters. No value is the same as an empty one.
fn preference(text: &str) -> (&str, &str) {
    let text = split_unquoted(text, ';').next().unwrap_or_default();
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let value = value.trim();
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    (name.trim(), unquoted.unwrap_or(value))
}

/// The pieces between separators; one inside quotation marks separates nothing.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character: char| {
        let separates = character == separator && !is_quoted;
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        separates
    })
}

/// Two requests that mean the same have the same digest, however their JSON is spelled. It is stored for ever, so the
/// same request must have the same one in every release (`golden/requests.json`).
fn digest(route: &'static str, asked: &impl Serialize) -> [u8; 32] {
    let meaning = serde_json::to_vec(&(route, asked)).expect("what was read from JSON becomes JSON");
    Sha256::digest(meaning).into()
}
