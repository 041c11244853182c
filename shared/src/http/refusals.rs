//! What many routes have in common when they refuse, as `/openapi.json` describes it.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::PROBLEM_JSON;

macro_rules! refusals {
    ($($(#[$meaning:meta])* $name:ident { $($status:literal $description:literal;)+ })+) => {$(
        $(#[$meaning])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status, $description)),+].map(problem).into()
            }
        }
    )+};
}

refusals! {
    /// How a command is refused.
    CommandRefusals {
        "4XX" "Rejected, nothing was changed";
        "503" "Unavailable, or the outcome is unknown: retry with the same Idempotency-Key; without one, look first";
    }

    /// How a page of the projection is refused.
    PageRefusals {
        "400" "A parameter is invalid";
        "503" "The projection is being built, or the index does not answer: retry later";
    }

    /// How a route that takes neither parameters nor a body refuses both.
    NothingTaken {
        "400" "A parameter or a body was given, and there are none";
    }

    /// How a request about a job is answered when a backend does not answer.
    JobUnavailable {
        "503" "A backend does not answer: retry later; if the outcome is unknown, look at the status of the job first";
    }

    /// How a route answers when a backend does not.
    Unavailable {
        "503" "A backend does not answer: retry later";
    }
}

/// A [`Problem`](super::Problem), of which [`described`](super::described()) adds the schema to every description.
fn problem((status, description): (&str, &str)) -> (String, RefOr<Response>) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build();
    (status.to_owned(), response.into())
}
