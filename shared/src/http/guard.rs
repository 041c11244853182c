//! What stands round every handler: time, panics, size, numbers, and the two answers no handler gives.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use metrics::{counter, histogram};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::extract::too_large;
use super::{Limits, Problem, Reason};
use crate::telemetry::metric::{HTTP_REQUEST_SECONDS, HTTP_REQUESTS};

/// A router whose every answer keeps the laws H1 and H4 and begins within [`Limits::request`]. `service` labels its
/// metrics. To be called once, when the last route has been added.
pub fn guarded(router: Router, service: &'static str, limits: Limits) -> Router {
    router
        .fallback(|| async { Problem::new(Reason::RouteNotFound) })
        .method_not_allowed_fallback(|| async { Problem::new(Reason::MethodNotAllowed) })
        .layer(from_fn_with_state(Guard { service, limits }, guard))
}

#[derive(Clone, Copy)]
struct Guard {
    service: &'static str,
    limits: Limits,
}

async fn guard(State(Guard { service, limits }): State<Guard>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    // The pattern, never the path: a path has ids in it, and one label for each id would have no bound.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);

    let response = if declared_length(&request).is_some_and(|length| length > limits.body_bytes) {
        too_large(limits.body_bytes).into_response()
    } else {
        let allowance = TimeAllowance::default();
        request.extensions_mut().insert(limits);
        request.extensions_mut().insert(allowance.clone());
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
        match allowance.limit(started + limits.request, answer).await {
            Some(Ok(response)) => response,
            Some(Err(_)) => {
                error!(service, %method, route, "handler panicked");
                Problem::new(Reason::Internal).into_response()
            }
            None => timed_out(&method).into_response(),
        }
    };
    record(service, &method, route, response.status(), started.elapsed());
    response
}

fn declared_length(request: &Request) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A read had no effect; anything else may have had one.
fn timed_out(method: &Method) -> Problem {
    if method.is_safe() { Problem::new(Reason::Unavailable) } else { Problem::new(Reason::OutcomeUnknown) }
        .detail("the answer took too long")
}

fn record(service: &'static str, method: &Method, route: &str, status: StatusCode, took: Duration) {
    // Whatever is away is told once by who asks for it, and not again for each request that has to wait for it.
    let is_away = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
    if status.is_server_error() && !is_away {
        warn!(service, %method, route, status = status.as_u16(), micros = took.as_micros(), "request failed");
    } else {
        debug!(service, %method, route, status = status.as_u16(), micros = took.as_micros(), "request answered");
    }
    let method = method_label(method);
    let route = Arc::<str>::from(route);
    let status = status.as_str().to_owned();
    counter!(HTTP_REQUESTS.name, "service" => service, "method" => method, "route" => Arc::clone(&route), "status" => status)
        .increment(1);
    histogram!(HTTP_REQUEST_SECONDS.name, "service" => service, "method" => method, "route" => route)
        .record(took.as_secs_f64());
}

/// A client may invent methods; a label must not follow it.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Time a handler takes beyond [`Limits::request`] because its client asked it to wait. An extractor.
#[derive(Clone, Debug, Default)]
pub struct TimeAllowance(Arc<AtomicU64>);

impl TimeAllowance {
    /// Adds to the time this request may take. To be called before the time is up.
    pub fn extend(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The result, or nothing when it is not there by the deadline, which the handler may move while it runs.
    async fn limit<F: Future>(&self, mut deadline: Instant, work: F) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout_at(deadline, &mut work).await {
                return Some(done);
            }
            match self.0.swap(0, Ordering::Relaxed) {
                0 => return None,
                more => deadline += Duration::from_millis(more),
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TimeAllowance {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
