//! The routes an operator and his machines ask: is it alive, is it ready, how is it doing, what can it do.

use std::future::Future;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::OpenApi;

use super::{PathId, Problem, Reason};
use crate::telemetry::MetricsReader;

/// How long the dependencies may take to answer before the service counts as not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Whether one thing a service cannot work without answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// Its role, such as `store`.
    pub name: &'static str,
    /// Whether it answers.
    pub ready: bool,
}

/// `/healthz`, `/readyz`, `/metrics`, `/openapi.json` and the explanation of every problem's type.
///
/// `dependencies` asks each of them. `metrics` may be absent in a test; `/metrics` is empty then.
///
/// # Panics
/// If the description is not JSON, which no description of utoipa is.
pub fn operational_routes<F, A>(dependencies: F, metrics: Option<MetricsReader>, description: &OpenApi) -> Router
where
    F: Fn() -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Vec<Dependency>> + Send + 'static,
{
    let description = Bytes::from(serde_json::to_vec(description).expect("a description is plain JSON"));
    Router::new()
        .route("/healthz", get(|| async { Json(json!({ "alive": true })) }))
        .route("/readyz", get(move || ready(dependencies())))
        .route("/metrics", get(move || async move { prometheus(metrics.as_ref()) }))
        .route("/openapi.json", get(move || async move { ([(CONTENT_TYPE, "application/json")], description) }))
        .route("/problems/{id}", get(explain))
}

async fn ready(dependencies: impl Future<Output = Vec<Dependency>>) -> Result<Response, Problem> {
    let Ok(dependencies) = tokio::time::timeout(READY_WITHIN, dependencies).await else {
        return Err(Problem::new(Reason::Unavailable).detail("the dependencies do not answer"));
    };
    let body = json!(dependencies);
    if dependencies.iter().all(|dependency| dependency.ready) {
        Ok(Json(json!({ "ready": true, "dependencies": body })).into_response())
    } else {
        Err(Problem::new(Reason::Unavailable).detail("a dependency does not answer").member("dependencies", body))
    }
}

fn prometheus(metrics: Option<&MetricsReader>) -> Response {
    let text = metrics.map(MetricsReader::render).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// What the type of a problem means: the type is a path, and the path answers.
async fn explain(PathId(code): PathId<String>) -> Result<Response, Problem> {
    let Some(reason) = Reason::ALL.iter().find(|reason| reason.code() == code) else {
        return Err(Problem::new(Reason::RouteNotFound));
    };
    let body = json!({
        "type": format!("/problems/{}", reason.code()),
        "title": reason.title(),
        "status": reason.status().as_u16(),
        "code": reason.code(),
    });
    Ok(Json(body).into_response())
}
