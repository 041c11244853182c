//! What the routes of every service keep to, as checks any service can run.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// An id to put where a path has a parameter.
const SOME_ID: &str = "0198c1a2-7f00-7000-8000-000000000001";

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Asks every path of `/openapi.json` by every method: a described one must be there, any other must be refused as 405.
///
/// # Panics
/// When description and routes differ.
pub async fn the_description_and_the_routes_are_the_same(router: &Router) {
    let description = ask(router, Method::GET, "/openapi.json").await.1;
    let paths = description["paths"].as_object().expect("a description has paths");
    assert!(paths.len() > 4, "only the operational routes are described");
    for (path, operations) in paths {
        let asked: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { SOME_ID } else { part }).collect();
        for method in METHODS {
            let verb = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method of HTTP");
            let (status, body) = ask(router, verb, &asked.join("/")).await;
            if operations.get(method).is_some() {
                assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} is described and not there");
                let described_elsewhere = path == "/problems/{code}";
                assert!(described_elsewhere || body["code"] != "route_not_found", "{method} {path} is not there");
            } else {
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} is there and not described");
            }
        }
    }
}

async fn ask(router: &Router, method: Method, path: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a plain request");
    let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body in memory").to_bytes();
    (head.status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
