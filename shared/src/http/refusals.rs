//! What many routes have in common when they refuse, as `/openapi.json` describes it.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::PROBLEM_JSON;

/// How a command is refused.
#[derive(Clone, Copy, Debug)]
pub struct CommandRefusals;

/// How a route that only reads answers when a backend does not.
#[derive(Clone, Copy, Debug)]
pub struct Unavailable;

impl IntoResponses for CommandRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [
            ("4XX", "Rejected, nothing was changed"),
            ("503", "Unavailable, or the outcome is unknown: retry with the same Idempotency-Key"),
        ]
        .map(problem)
        .into()
    }
}

impl IntoResponses for Unavailable {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [("503", "A backend does not answer: retry later")].map(problem).into()
    }
}

/// A [`Problem`](super::Problem), of which [`described`](super::described()) adds the schema to every description.
fn problem((status, description): (&str, &str)) -> (String, RefOr<Response>) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build();
    (status.to_owned(), response.into())
}
