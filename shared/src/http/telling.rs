//! Headers of answers, described once for all routes that send them.
//!
//! `#[utoipa::path]` takes a header only together with the body of its answer, and its description only as a literal.
//! So the headers are added to the finished description of a route.

use utoipa::openapi::{Header, HeaderBuilder, Object, RefOr, Type};
use utoipa_axum::router::UtoipaMethodRouter;

/// A header that tells a client something about an answer, as `/openapi.json` describes it.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHeader {
    name: &'static str,
    meaning: &'static str,
}

impl AnswerHeader {
    /// A header, and what its value means.
    #[must_use]
    pub const fn new(name: &'static str, meaning: &'static str) -> Self {
        Self { name, meaning }
    }

    fn described(&self) -> (String, RefOr<Header>) {
        let text = Object::with_type(Type::String);
        let header = HeaderBuilder::new().schema(Some(text)).description(Some(self.meaning)).build();
        (self.name.to_owned(), RefOr::T(header))
    }
}

/// The same route, described as sending these headers with every answer that is no refusal.
pub fn telling<S>(headers: &[AnswerHeader], route: UtoipaMethodRouter<S>) -> UtoipaMethodRouter<S> {
    let (schemas, mut paths, handlers) = route;
    let methods = paths
        .paths
        .values_mut()
        .flat_map(|path| [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete]);
    for (status, answer) in methods.flatten().flat_map(|operation| &mut operation.responses.responses) {
        if status.starts_with('2')
            && let RefOr::T(answer) = answer
        {
            answer.headers.extend(headers.iter().map(AnswerHeader::described));
        }
    }
    (schemas, paths, handlers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Unavailable, described};

    /// Say something.
    #[utoipa::path(get, path = "/", responses((status = 200, description = "Said", body = String), Unavailable))]
    async fn say() -> &'static str {
        "something"
    }

    #[test]
    fn a_header_is_described_with_every_answer_but_not_with_refusals() {
        let route: UtoipaMethodRouter<()> = described(__path_say, say);
        let (_, paths, _) = telling(&[AnswerHeader::new("ETag", "Version")], route);
        let description = serde_json::to_value(&paths).unwrap();
        let responses = &description["/"]["get"]["responses"];
        let header = &responses["200"]["headers"]["ETag"];
        assert_eq!(*header, serde_json::json!({ "schema": { "type": "string" }, "description": "Version" }));
        assert!(responses["503"].is_object() && responses["503"].get("headers").is_none(), "{responses}");
    }
}
