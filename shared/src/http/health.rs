//! The routes for operators and their tools: liveness, readiness, metrics, and explanations of problems and of the API.
//!
//! A service is ready while every dependency that it needs to answer requests answers. The others, which it needs to go
//! on, are listed beside them and keep nobody away. Replicas share their backends, so whoever sends requests only to
//! those that are ready would otherwise lose all of them to a backend that no request needs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawPathParams, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{Problem, Reason, described};
use crate::refusals;
use crate::telemetry::MetricsReader;

/// How long a dependency may take to answer before it counts as not ready. Each has this limit to itself, so that one
/// that is silent is named beside those that answer. Whoever asks for readiness must wait longer than this.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// A backend the service depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Dependency {
    /// Role, such as `store`.
    pub name: &'static str,
    /// Whether the service is ready only while it answers.
    pub needed: bool,
    /// Whether it answers.
    pub ready: bool,
}

impl Dependency {
    /// Probes a dependency without which the service answers no request.
    pub fn needed<T, E>(name: &'static str, probe: impl Future<Output = Result<T, E>>) -> impl Future<Output = Self> {
        Self::probed(name, true, probe)
    }

    /// Probes a dependency without which the service still answers requests.
    pub fn not_needed<T, E>(
        name: &'static str,
        probe: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Self> {
        Self::probed(name, false, probe)
    }

    async fn probed<T, E>(name: &'static str, needed: bool, probe: impl Future<Output = Result<T, E>>) -> Self {
        let answer = tokio::time::timeout(READY_WITHIN, probe).await;
        Self { name, needed, ready: matches!(answer, Ok(Ok(_))) }
    }
}

/// Everything that the service needs to answer requests answers.
#[derive(Serialize, ToSchema)]
struct Ready {
    /// Always true: a service that is not ready answers with a problem.
    ready: bool,
    /// Every dependency, also those that do not answer and are not needed.
    dependencies: Vec<Dependency>,
}

/// The process is running.
#[derive(Serialize, ToSchema)]
struct Alive {
    /// Always true: a process that is not running does not answer.
    alive: bool,
}

/// A kind of problem.
#[derive(Serialize, ToSchema)]
struct Explanation {
    /// Path of this explanation, as in the `type` of a problem.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem, for humans.
    title: &'static str,
    /// HTTP status code of such a problem.
    status: u16,
    /// Stable machine-readable code.
    #[schema(schema_with = Reason::code_schema)]
    code: &'static str,
}

impl From<Reason> for Explanation {
    fn from(reason: Reason) -> Self {
        let (title, status, code) = (reason.title(), reason.status().as_u16(), reason.code());
        Self { kind: reason.type_uri(), title, status, code }
    }
}

/// The sources of the operational routes.
#[derive(Clone)]
pub struct Operations {
    dependencies: Arc<dyn Fn() -> BoxFuture<'static, Vec<Dependency>> + Send + Sync>,
    metrics: Option<MetricsReader>,
}

impl Operations {
    /// `dependencies` probes each dependency, at the same time and within the limit that [`Dependency::needed`] and
    /// [`Dependency::not_needed`] set. Without `metrics`, as in most tests, `/metrics` is empty.
    pub fn new<F, A>(dependencies: F, metrics: Option<MetricsReader>) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Vec<Dependency>> + Send + 'static,
    {
        Self { dependencies: Arc::new(move || Box::pin(dependencies())), metrics }
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operations")
    }
}

refusals! {
    /// How readiness is denied.
    NotReady {
        "503" "A dependency that is needed does not answer; `dependencies` lists all of them";
    }

    /// How an explanation is refused.
    UnknownProblem {
        "404" "No problem has this code";
    }
}

/// Adds `/healthz`, `/readyz`, `/metrics`, `/problems`, `/problems/{code}` to the routes of a service, and
/// `/openapi.json`, which describes them all.
///
/// # Panics
/// If the description cannot be serialized as JSON; it contains nothing that could not.
pub fn with_operations(service: OpenApiRouter, operations: Operations) -> Router {
    let operational = OpenApiRouter::default()
        .routes(described(__path_alive, alive))
        .routes(described(__path_ready, ready))
        .routes(described(__path_prometheus, prometheus))
        .routes(described(__path_problems, problems))
        .routes(described(__path_explain, explain))
        .with_state(operations);
    let (router, description) = service.merge(operational).split_for_parts();
    let description = Bytes::from(serde_json::to_vec(&description).expect("a description is plain data"));
    router.route("/openapi.json", get(async || ([(CONTENT_TYPE, "application/json")], description)))
}

/// Liveness: the process is running.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses(
    (status = 200, description = "Alive", body = Alive),
))]
async fn alive() -> Json<Alive> {
    Json(Alive { alive: true })
}

/// Readiness: everything that the service needs to answer requests answers.
#[utoipa::path(get, path = "/readyz", tag = "operation", responses(
    (status = 200, description = "Every dependency that is needed answers; `dependencies` also lists the others",
     body = Ready),
    NotReady,
))]
async fn ready(State(operations): State<Operations>) -> Result<Json<Ready>, Problem> {
    let dependencies = (operations.dependencies)().await;
    if dependencies.iter().all(|dependency| dependency.ready || !dependency.needed) {
        Ok(Json(Ready { ready: true, dependencies }))
    } else {
        Err(Problem::new(Reason::Unavailable)
            .detail("a dependency that is needed does not answer; see dependencies")
            .member("dependencies", json!(dependencies)))
    }
}

/// Metrics of the process, in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "All metrics", body = String, content_type = "text/plain"),
))]
async fn prometheus(State(operations): State<Operations>) -> Response {
    let text = operations.metrics.as_ref().map(MetricsReader::render).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// List all kinds of problems, each with its code, status and title.
#[utoipa::path(get, path = "/problems", tag = "operation", responses(
    (status = 200, description = "Every kind; its `type` is the path that explains it alone", body = Vec<Explanation>),
))]
async fn problems() -> Json<Vec<Explanation>> {
    Json(Reason::ALL.iter().copied().map(Explanation::from).collect())
}

/// Explain a problem: its `type` is a path of this route.
#[utoipa::path(get, path = "/problems/{code}", tag = "operation",
    params(("code" = String, Path, description = "Code of the problem")),
    responses(
        (status = 200, description = "Title and status of the problem", body = Explanation),
        UnknownProblem,
    ),
)]
async fn explain(path: RawPathParams) -> Result<Json<Explanation>, Problem> {
    let code = path.iter().find(|(name, _)| *name == "code").map(|(_, code)| code);
    let Some(reason) = Reason::ALL.iter().find(|reason| Some(reason.code()) == code) else {
        return Err(Problem::new(Reason::RouteNotFound).detail("no problem has this code; GET /problems lists all"));
    };
    Ok(Json(Explanation::from(*reason)))
}
