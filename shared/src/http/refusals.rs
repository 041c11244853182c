//! How routes refuse, as `/openapi.json` describes it: how a service tells that, and what all services have in common.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::PROBLEM_JSON;

/// Types for `responses(…)` of `#[utoipa::path]`: a table of statuses and what each of them means.
#[macro_export]
macro_rules! refusals {
    ($($(#[$meaning:meta])* $vis:vis $name:ident { $($status:literal $description:literal;)+ })+) => {$(
        $(#[$meaning])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name;

        impl ::utoipa::IntoResponses for $name {
            fn responses() -> ::std::collections::BTreeMap<
                ::std::string::String,
                ::utoipa::openapi::RefOr<::utoipa::openapi::Response>,
            > {
                $crate::http::problems(&[$(($status, $description)),+])
            }
        }
    )+};
}

refusals! {
    /// How a route answers when a backend does not.
    pub Unavailable {
        "503" "A backend does not answer: retry later";
    }
}

/// The description of refusals, each with its status and its meaning, for [`refusals!`](crate::refusals), which other
/// crates expand: public for that alone.
#[doc(hidden)]
#[must_use]
pub fn problems(refusals: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    refusals.iter().map(|(status, description)| problem(status, description)).collect()
}

/// A [`Problem`](super::Problem), of which [`described`](super::described()) adds the schema to every description.
fn problem(status: &str, description: &str) -> (String, RefOr<Response>) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build();
    (status.to_owned(), response.into())
}

#[cfg(test)]
mod tests {
    use utoipa::IntoResponses;

    crate::refusals! {
        /// Two refusals.
        Both {
            "400" "Wrong";
            "4XX" "Otherwise wrong";
        }
    }

    #[test]
    fn each_row_of_a_table_is_described_as_a_problem() {
        let description = serde_json::to_value(Both::responses()).unwrap();
        assert_eq!(description.as_object().map(serde_json::Map::len), Some(2));
        for (status, meaning) in [("400", "Wrong"), ("4XX", "Otherwise wrong")] {
            assert_eq!(description[status]["description"], meaning);
            let schema = &description[status]["content"]["application/problem+json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Problem");
        }
    }
}
