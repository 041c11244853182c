//! Extractors for body, path and headers: taken as meant, or refused with the place that is wrong (law H2).

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::expected::must_be;
use super::guard::limits_of;
use super::{Problem, Reason};
use crate::id::MUST_BE_A_UUID;

/// The longest error message about a field, in characters: messages quote input.
const MESSAGE_CHARS_MAX: usize = 200;

/// What some editors put in front of a text in UTF-8, and JSON forbids (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A JSON body that is exactly a `T`, which must be an object.
///
/// `T` must derive with `#[serde(deny_unknown_fields)]`; repeated fields are refused in any case.
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let limits = limits_of(request.extensions());
        parse(&read(request.into_body(), limits.body_bytes, limits.body).await?).map(Self)
    }
}

/// No body, or an empty object, which many clients send with every `POST`; for a route that takes none, so that nothing
/// is ignored.
#[derive(Clone, Copy, Debug)]
pub struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let limits = limits_of(request.extensions());
        let body = read(request.into_body(), limits.body_bytes, limits.body).await?;
        if matches!(body.trim_ascii(), b"" | b"{}") {
            Ok(Self)
        } else {
            Err(Problem::invalid("", "the route takes no body"))
        }
    }
}

/// Bodies are small, so none is worth decompressing, which would need a bound of its own.
fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |field: &str, message: &str| Problem::new(Reason::UnsupportedMediaType).error(field, message);
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(unsupported("content-encoding", "must be omitted: send the body uncompressed"));
    }
    if is_json(headers) {
        Ok(())
    } else {
        Err(unsupported("content-type", "must be application/json, once and in UTF-8; curl sends it with --json"))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let mut parts = only.to_str().unwrap_or_default().split(';').map(str::trim);
    parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| {
            parameter.is_empty()
                || parameter.eq_ignore_ascii_case("charset=utf-8")
                || parameter.eq_ignore_ascii_case("charset=\"utf-8\"")
        })
}

async fn read(body: Body, bytes_max: usize, time: Duration) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(time, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(failure)) if failure.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Ok(Err(_)) => Err(Problem::invalid("", "the body is incomplete: the connection closed before its end")),
        Err(_) => {
            Err(Problem::new(Reason::BodyTooSlow)
                .detail(format!("the body must arrive within {} s", time.as_secs_f32())))
        }
    }
}

pub(super) fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Reason::BodyTooLarge).detail(format!("the body must not exceed {bytes_max} bytes"))
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    match json.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {}
        // This refuses lists too: serde would take their elements for the fields, in order.
        Some(_) => return Err(Problem::invalid("", why_no_object(json))),
        None => return Err(Problem::invalid("", "a JSON body is required")),
    }
    // Nearly every body is valid, and finding where one is wrong costs more than all the rest.
    if let Ok(value) = serde_json::from_slice(json) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|failure| {
        let path = failure.path().to_string();
        let inner = failure.into_inner();
        let (field, message) = match inner.classify() {
            serde_json::error::Category::Data => (path, without_place(&inner.to_string())),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => (String::new(), format!("invalid JSON: {inner}")),
        };
        invalid_field(&field, &message)
    })?;
    reader.end().map_err(|failure| Problem::invalid("", format!("invalid JSON: {failure}")))?;
    Ok(value)
}

/// What is wrong with a body that does not begin as an object.
fn why_no_object(body: &[u8]) -> String {
    if body.starts_with(BYTE_ORDER_MARK) {
        return "must not begin with a byte order mark: save it as UTF-8 without one".to_owned();
    }
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(IgnoredAny) => "must be a JSON object".to_owned(),
        Err(failure) => format!("invalid JSON: {failure}"),
    }
}

/// Line and column add nothing to the field's path.
fn without_place(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(text, _)| text).to_owned()
}

/// A serde error as a refusal: bounded, and under the field's name where serde gives it only in the text.
pub(super) fn invalid_field(path: &str, message: &str) -> Problem {
    let message: String = must_be(message).chars().take(MESSAGE_CHARS_MAX).collect();
    let named = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split_once('`'))
        .map(|(name, _)| name);
    let field = match (path, named) {
        ("." | "", name) => name.unwrap_or_default().to_owned(),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    };
    Problem::invalid(field.chars().take(MESSAGE_CHARS_MAX).collect::<String>(), message)
}

/// The `{id}` of a path. Where any word in that place is taken for an id, so is a mistyped path: a refusal says where
/// the paths are listed.
#[derive(Clone, Copy, Debug)]
pub struct PathId<T>(pub T);

impl<T, S> FromRequestParts<S> for PathId<T>
where
    T: FromStr<Err: Display> + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let refused = || {
            let detail = format!("id: {MUST_BE_A_UUID}; if another path was meant, /openapi.json lists them all");
            Problem::invalid("id", MUST_BE_A_UUID).detail(detail)
        };
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| refused())?;
        let text = params.iter().find(|(name, _)| *name == "id").map(|(_, text)| text).unwrap_or_default();
        let id = text.parse().map_err(|_| refused())?;
        Ok(Self(id))
    }
}

/// The single value of a header that may be absent.
///
/// # Errors
/// A header that is repeated or not visible ASCII is refused under its name.
pub fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Problem::invalid(name, "must not be repeated")),
        (Some(only), None) => {
            only.to_str().map(Some).map_err(|_| Problem::invalid(name, "must contain only visible ASCII characters"))
        }
    }
}
