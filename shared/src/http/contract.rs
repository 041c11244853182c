//! Rules that the routes of every service keep, as checks that any service can run.

use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::response::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tower::ServiceExt;

/// An id to use as a path parameter.
const SOME_ID: &str = "0198c1a2-7f00-7000-8000-000000000001";

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Routes that every service has and that ignore the query.
const OPERATIONAL: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/problems", "/problems/{code}"];

/// The headers of an answer that inform a client.
const TELLING: [&str; 5] = ["etag", "idempotent-replayed", "link", "location", "preference-applied"];

/// Sends every described route, except the operational ones, a parameter that no route knows: it must be refused by
/// name (law H2).
///
/// # Panics
/// When a route ignores it.
pub async fn every_route_refuses_a_parameter_it_does_not_know(router: &Router) {
    let description = ask(router, Method::GET, "/openapi.json").await.1;
    let mut asked = 0;
    for (path, operations) in described_paths(&description) {
        if OPERATIONAL.contains(&path.as_str()) {
            continue;
        }
        let uri = format!("{}?unheard_of=1", with_some_id(path));
        for method in METHODS.into_iter().filter(|method| operations.get(method).is_some()) {
            let (status, body) = ask(router, verb(method), &uri).await;
            let refused = (status, body["errors"][0]["field"].as_str());
            assert_eq!(refused, (StatusCode::BAD_REQUEST, Some("unheard_of")), "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked > 4, "only {asked} routes were asked");
}

/// Sends a body to every described route that takes none and is no read: it must be refused (law H2).
///
/// # Panics
/// When a route ignores it.
pub async fn every_route_refuses_a_body_it_does_not_take(router: &Router) {
    let description = ask(router, Method::GET, "/openapi.json").await.1;
    let mut asked = 0;
    for (path, operations) in described_paths(&description) {
        for method in METHODS.into_iter().filter(|method| *method != "get") {
            if operations.get(method).is_some_and(|route| route.get("requestBody").is_none()) {
                let request = Request::builder().method(verb(method)).uri(with_some_id(path)).body(Body::from("[]"));
                let (head, body) = send(router, request.expect("a plain request")).await;
                let refused = (head.status, body["errors"][0]["field"].as_str());
                assert_eq!(refused, (StatusCode::BAD_REQUEST, Some("")), "{method} {path}");
                asked += 1;
            }
        }
    }
    assert!(asked > 0, "every route takes a body");
}

/// Tries every method on every path of `/openapi.json`: a described one must exist and answer as described, any other
/// must be refused with 405. What the description refers to must be part of it.
///
/// # Panics
/// When description and routes differ, or a reference leads nowhere.
pub async fn the_description_and_the_routes_are_the_same(router: &Router) {
    let description = ask(router, Method::GET, "/openapi.json").await.1;
    let paths = described_paths(&description);
    assert!(paths.len() > 4, "only the operational routes are described");
    every_reference_leads_somewhere(&description);
    for (path, operations) in paths {
        let asked = with_some_id(path);
        for method in METHODS {
            let request = Request::builder().method(verb(method)).uri(&asked).body(Body::empty());
            let (Parts { status, headers, .. }, body) = send(router, request.expect("a plain request")).await;
            if operations.get(method).is_some() {
                assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} is described and not there");
                let described_elsewhere = path == "/problems/{code}";
                assert!(described_elsewhere || body["code"] != "route_not_found", "{method} {path} is not there");
                the_answer_is_described(&description, method, path, status, &headers);
            } else {
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path} is there and not described");
            }
        }
    }
}

/// Checks an answer of a described route, such as `post` and `/accounts`: its status must be described, with its media
/// type and its headers that inform a client.
///
/// # Panics
/// When one of them is not.
pub fn the_answer_is_described(description: &Value, method: &str, path: &str, status: StatusCode, headers: &HeaderMap) {
    let responses = &description["paths"][path][method]["responses"];
    let class = format!("{}XX", status.as_u16() / 100);
    let response = responses.get(status.as_str()).or_else(|| responses.get(&class));
    let response = response.unwrap_or_else(|| panic!("{method} {path}: {status} is not described"));
    if let Some(media_type) = headers.get(CONTENT_TYPE) {
        let media_type = media_type.to_str().expect("a media type is ASCII").split(';').next().unwrap_or_default();
        let is_described = response["content"].get(media_type).is_some();
        assert!(is_described, "{method} {path}: {status} is not described as {media_type}");
    }
    for name in TELLING.into_iter().filter(|name| headers.contains_key(*name)) {
        let mut described = response["headers"].as_object().into_iter().flat_map(Map::keys);
        let is_described = described.any(|header| header.eq_ignore_ascii_case(name));
        assert!(is_described, "{method} {path}: the header {name} of {status} is not described");
    }
}

fn every_reference_leads_somewhere(description: &Value) {
    let mut values = vec![description];
    while let Some(value) = values.pop() {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    let target = reference.strip_prefix('#').and_then(|path| description.pointer(path));
                    assert!(target.is_some(), "{reference} is referred to and not described");
                }
                values.extend(members.values());
            }
            Value::Array(items) => values.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn described_paths(description: &Value) -> &Map<String, Value> {
    description["paths"].as_object().expect("a description has paths")
}

fn with_some_id(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { SOME_ID } else { part }).collect();
    parts.join("/")
}

fn verb(method: &str) -> Method {
    Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method of HTTP")
}

async fn ask(router: &Router, method: Method, path: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a plain request");
    let (head, body) = send(router, request).await;
    (head.status, body)
}

async fn send(router: &Router, request: Request<Body>) -> (Parts, Value) {
    let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body in memory").to_bytes();
    (head, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
