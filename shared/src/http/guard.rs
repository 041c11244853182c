//! What surrounds every handler: time limit, panics, body size, metrics, and the two answers that no handler gives.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::http::{Extensions, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{debug, error, warn};

use super::count::RequestCounts;
use super::extract::too_large;
use super::{Limits, Problem, Reason};

/// A router whose every answer keeps the laws H1 and H4 and begins within [`Limits::request`]. `service` labels its
/// metrics. Call it once, after the last route has been added.
pub fn guarded(router: Router, service: &'static str, limits: Limits) -> Router {
    router
        .fallback(|| async { Problem::new(Reason::RouteNotFound).detail("no such path; /openapi.json lists them all") })
        .method_not_allowed_fallback(|| async { Problem::other_methods() })
        .layer(Guard(Arc::new(Post { limits, counts: RequestCounts::new(service) })))
}

/// State that all guards of a router share.
struct Post {
    limits: Limits,
    counts: RequestCounts,
}

#[derive(Clone)]
struct Guard(Arc<Post>);

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, post: Arc::clone(&self.0) }
    }
}

/// A route and its guard. axum's `from_fn` would copy the route and put it into two more boxes for each request.
#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    post: Arc<Post>,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let post = Arc::clone(&self.post);
        let method = request.method().clone();
        let route = request.extensions().get::<MatchedPath>().cloned();
        let refusal = declared_length(&request).is_some_and(|length| length > post.limits.body_bytes);
        let allowance = TimeAllowance::of(post.limits);
        request.extensions_mut().insert(allowance.clone());
        // A handler does not run before its answer is polled, so its panics are caught there.
        let answer = (!refusal).then(|| self.inner.call(request));
        Box::pin(async move {
            let response = match answer {
                None => too_large(post.limits.body_bytes).into_response(),
                Some(answer) => post.watch(answer, started, &allowance, &method, route.as_ref()).await,
            };
            post.record(&method, route.as_ref(), response.status(), started.elapsed());
            Ok(response)
        })
    }
}

impl Post {
    /// The answer of a handler, or the one that replaces it if the handler panics or takes too long.
    async fn watch(
        &self,
        answer: impl Future<Output = Result<Response, Infallible>>,
        started: Instant,
        allowance: &TimeAllowance,
        method: &Method,
        route: Option<&MatchedPath>,
    ) -> Response {
        let answer = AssertUnwindSafe(answer).catch_unwind();
        match allowance.limit(started + self.limits.request, answer).await {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(never))) => match never {},
            Some(Err(_)) => {
                error!(service = self.counts.service(), %method, route = pattern(route), "handler panicked");
                Problem::new(Reason::Internal).into_response()
            }
            None => timed_out(method.is_safe() && !allowance.has_effect()).into_response(),
        }
    }

    fn record(&self, method: &Method, route: Option<&MatchedPath>, status: StatusCode, took: Duration) {
        let (service, micros) = (self.counts.service(), took.as_micros());
        // An unavailable backend is logged once by its caller, not again for each request that has to wait for it.
        let is_away = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        if status.is_server_error() && !is_away {
            warn!(service, %method, route = pattern(route), status = status.as_u16(), micros, "request failed");
        } else {
            debug!(service, %method, route = pattern(route), status = status.as_u16(), micros, "request answered");
        }
        self.counts.count(method, pattern(route), status, took);
    }
}

/// The pattern, never the path: a path contains ids, and one label per id would be unbounded.
fn pattern(route: Option<&MatchedPath>) -> &str {
    route.map_or("unmatched", MatchedPath::as_str)
}

fn declared_length(request: &Request) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A read had no effect; anything else may have had one.
fn timed_out(is_read: bool) -> Problem {
    if is_read {
        Problem::new(Reason::Unavailable).detail("the request timed out; try again")
    } else {
        let detail = "the request timed out and may have taken effect; look before you repeat it, or repeat it \
                      with its Idempotency-Key";
        Problem::new(Reason::OutcomeUnknown).detail(detail).without_retry()
    }
}

/// An extractor for what a handler tells its guard: time that it takes beyond [`Limits::request`] because its client
/// asked it to wait, and that it does something even if the method is GET.
#[derive(Clone, Debug, Default)]
pub struct TimeAllowance(Arc<Allowed>);

#[derive(Debug, Default)]
struct Allowed {
    limits: Limits,
    /// Milliseconds that were requested and not yet added to the deadline.
    more_ms: AtomicU64,
    /// Whether the handler does more than its method says.
    has_effect: AtomicBool,
}

impl TimeAllowance {
    fn of(limits: Limits) -> Self {
        Self(Arc::new(Allowed { limits, ..Allowed::default() }))
    }

    /// Extends the time that this request may take. Call it before the time is up.
    pub fn extend(&self, by: Duration) {
        self.0.more_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Says that a request takes effect although its method is safe, so that a client whose time is up is not told that
    /// nothing happened. Call it before anything does.
    pub fn takes_effect(&self) {
        self.0.has_effect.store(true, Ordering::Relaxed);
    }

    fn has_effect(&self) -> bool {
        self.0.has_effect.load(Ordering::Relaxed)
    }

    /// The result, or `None` if it is not there by the deadline, which the handler may extend while it runs.
    async fn limit<F: Future>(&self, mut deadline: Instant, work: F) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout_at(deadline, &mut work).await {
                return Some(done);
            }
            match self.0.more_ms.swap(0, Ordering::Relaxed) {
                0 => return None,
                more => deadline += Duration::from_millis(more),
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TimeAllowance {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// The limits of the guard that a request passed.
pub(super) fn limits_of(passed: &Extensions) -> Limits {
    passed.get::<TimeAllowance>().map_or_else(Limits::default, |allowance| allowance.0.limits)
}
