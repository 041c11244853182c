use axum::http::{Method, StatusCode};
use serde_json::json;
use shared::http::contract::{
    every_route_refuses_a_body_it_does_not_take, every_route_refuses_a_parameter_it_does_not_know,
    the_answer_is_described, the_description_and_the_routes_are_the_same,
};

use crate::fixture::{Bank, account, balance, parked};

#[tokio::test]
async fn what_is_described_is_there_and_what_is_there_is_described() {
    let (bank, _) = Bank::with(Vec::new()).await;
    the_description_and_the_routes_are_the_same(&bank.router).await;
    let description = bank.get("/openapi.json").await.json();
    for path in [
        "/",
        "/balance",
        "/balance/",
        "/balance/{id}",
        "/balance/parked",
        "/balance/parked/{id}/retry",
        "/balance/verify",
        "/balance/rebuild",
        "/balance/rebuild/status",
        "/balance/rebuild/rollback",
        "/rebuild/balance",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(description["paths"].get(path).is_some(), "{path} is not described");
    }
    let rebuild = ["Rebuild", "RebuildPartition", "Verification", "Finding", "Fault"];
    for schema in ["Balance", "Parked", "Problem", "FieldError"].into_iter().chain(rebuild) {
        assert!(description["components"]["schemas"].get(schema).is_some(), "{schema} is not described");
    }
}

#[tokio::test]
async fn every_answer_is_as_it_is_described() {
    let (bank, generation) = Bank::with(vec![balance(1, "Paulo", 500, 3), balance(2, "Ana", 100, 1)]).await;
    bank.park(generation, vec![parked(1, 4), parked(2, 2)]).await;
    let description = bank.get("/openapi.json").await.json();
    let (id, status) = (account(1).to_string(), "/balance/rebuild/status");
    for (method, path, query, expected) in [
        (Method::GET, "/balance", "?limit=1", StatusCode::OK),
        (Method::GET, "/balance/parked", "?limit=1", StatusCode::OK),
        (Method::GET, "/balance/{id}", "", StatusCode::OK),
        (Method::GET, "/balance/{id}", "?min_version=4", StatusCode::GATEWAY_TIMEOUT),
        (Method::POST, "/balance/verify", "?patience_ms=1000", StatusCode::OK),
        (Method::GET, status, "", StatusCode::NOT_FOUND),
        (Method::POST, "/balance/rebuild", "", StatusCode::ACCEPTED),
        (Method::GET, "/balance/rebuild", "", StatusCode::CONFLICT),
        (Method::GET, status, "", StatusCode::OK),
        (Method::DELETE, "/balance/rebuild", "", StatusCode::OK),
        (Method::POST, "/balance/rebuild/rollback", "", StatusCode::CONFLICT),
        (Method::GET, "/rebuild/balance", "", StatusCode::ACCEPTED),
    ] {
        let answer = bank.ask(method.clone(), &format!("{}{query}", path.replace("{id}", &id)), &[]).await;
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text);
        assert_eq!(answer.headers.contains_key("link"), query == "?limit=1", "{path}");
        the_answer_is_described(&description, &method.as_str().to_lowercase(), path, answer.status, &answer.headers);
    }
    bank.shutdown.cancel();
    let watched = bank.ask(Method::GET, status, &[("accept", "text/event-stream")]).await;
    assert_eq!(watched.headers["content-type"], "text/event-stream");
    the_answer_is_described(&description, "get", status, watched.status, &watched.headers);
}

#[tokio::test]
async fn whatever_has_pages_is_described_with_their_sizes() {
    let (bank, _) = Bank::with(Vec::new()).await;
    let description = bank.get("/openapi.json").await.json();
    let sizes = json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 1_000, "default": 100});
    for path in ["/", "/balance", "/balance/", "/balance/parked"] {
        let taken = description["paths"][path]["get"]["parameters"].as_array().unwrap();
        let limit = taken.iter().find(|taken| taken["name"] == "limit").unwrap();
        assert_eq!((&limit["required"], &limit["schema"]), (&json!(false), &sizes), "{path}");
    }
}

#[tokio::test]
async fn no_route_ignores_a_body_it_does_not_take() {
    let (bank, _) = Bank::with(Vec::new()).await;
    every_route_refuses_a_body_it_does_not_take(&bank.router).await;
    assert_eq!(bank.get("/balance/rebuild/status").await.json()["code"], "no_rebuild");
}

#[tokio::test]
async fn no_route_ignores_a_parameter_it_does_not_know() {
    let (bank, _) = Bank::with(Vec::new()).await;
    every_route_refuses_a_parameter_it_does_not_know(&bank.router).await;
    // The refused request has begun nothing.
    assert_eq!(bank.get("/balance/rebuild/status").await.json()["code"], "no_rebuild");
}
