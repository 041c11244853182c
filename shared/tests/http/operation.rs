//! The routes for operators.

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::join;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use shared::http::{Dependency, Limits, Operations, Reason, guarded, with_operations};
use shared::telemetry::install_metrics;
use tower::ServiceExt;
use utoipa_axum::router::OpenApiRouter;

fn service(store_answers: Arc<AtomicBool>) -> Router {
    service_with(move || {
        let ready = store_answers.load(Ordering::Relaxed);
        let dependency = |name, ready| Dependency { name, needed: true, ready };
        async move { vec![dependency("store", ready), dependency("index", true)] }
    })
}

fn service_with<A>(dependencies: impl Fn() -> A + Send + Sync + 'static) -> Router
where
    A: Future<Output = Vec<Dependency>> + Send + 'static,
{
    let metrics = install_metrics().unwrap();
    let operations = Operations::new(dependencies, Some(metrics));
    guarded(with_operations(OpenApiRouter::default(), operations), "test", Limits::default())
}

async fn get(service: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_service_is_ready_while_everything_it_needs_answers() {
    let store_answers = Arc::new(AtomicBool::new(true));
    let service = service(Arc::clone(&store_answers));
    assert_eq!(get(&service, "/readyz").await.0, StatusCode::OK);

    store_answers.store(false, Ordering::Relaxed);
    let (status, body) = get(&service, "/readyz").await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["dependencies"][0], json!({ "name": "store", "needed": true, "ready": false }));
    assert_eq!(get(&service, "/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_service_is_ready_without_what_it_does_not_need_and_names_it() {
    for (needed, expected) in [(false, StatusCode::OK), (true, StatusCode::SERVICE_UNAVAILABLE)] {
        let lacking = Dependency { name: "log", needed, ready: false };
        let service = service_with(move || ready(vec![lacking.clone()]));
        let (status, body) = get(&service, "/readyz").await;
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, expected);
        assert_eq!(told["dependencies"], json!([{ "name": "log", "needed": needed, "ready": false }]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_is_silent_is_named_beside_those_that_answer() {
    let service = service_with(|| async {
        let (store, index) = join!(
            Dependency::needed("store", pending::<Result<(), ()>>()),
            Dependency::needed("index", ready(Ok::<(), ()>(()))),
        );
        vec![store, index]
    });
    let (status, body) = get(&service, "/readyz").await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let dependency = |name: &str, ready: bool| json!({ "name": name, "needed": true, "ready": ready });
    assert_eq!(problem["dependencies"], json!([dependency("store", false), dependency("index", true)]));
}

#[tokio::test]
async fn requests_are_counted_by_pattern_and_never_by_path() {
    let service = service(Arc::default());
    get(&service, "/problems/secret-name").await;
    get(&service, "/secret-path").await;
    let (_, metrics) = get(&service, "/metrics").await;
    assert!(metrics.contains(r#"route="/problems/{code}""#), "{metrics}");
    assert!(metrics.contains(r#"route="unmatched""#), "{metrics}");
    assert!(metrics.contains("http_request_duration_seconds_bucket"), "{metrics}");
    assert!(!metrics.contains("secret"), "{metrics}");
}

#[tokio::test]
async fn the_type_of_every_problem_is_a_path_that_explains_it() {
    let service = service(Arc::default());
    for reason in Reason::ALL {
        let (status, body) = get(&service, &reason.type_uri()).await;
        let explained: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, explained["status"].as_u64()), (StatusCode::OK, Some(reason.status().as_u16().into())));
    }
    assert_eq!(get(&service, "/problems/unheard-of").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_code_that_a_client_may_meet_is_listed_and_described() {
    let service = service(Arc::default());
    let (status, body) = get(&service, "/problems").await;
    let listed: Vec<Value> = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::OK);
    for problem in &listed {
        let explained = get(&service, problem["type"].as_str().unwrap()).await.1;
        assert_eq!(serde_json::from_str::<Value>(&explained).unwrap(), *problem);
    }
    let codes: Vec<Value> = Reason::ALL.iter().map(|reason| json!(reason.code())).collect();
    assert_eq!(listed.iter().map(|problem| problem["code"].clone()).collect::<Vec<_>>(), codes);
    let description: Value = serde_json::from_str(&get(&service, "/openapi.json").await.1).unwrap();
    for schema in ["Problem", "Explanation"] {
        let code = &description["components"]["schemas"][schema]["properties"]["code"];
        assert_eq!((&code["type"], &code["enum"]), (&json!("string"), &json!(codes)), "{schema}");
    }
}

#[tokio::test]
async fn the_description_names_every_operational_route() {
    let service = service(Arc::default());
    let description: Value = serde_json::from_str(&get(&service, "/openapi.json").await.1).unwrap();
    for path in ["/healthz", "/readyz", "/metrics", "/problems", "/problems/{code}"] {
        assert!(description["paths"].get(path).is_some(), "{path}");
    }
}
