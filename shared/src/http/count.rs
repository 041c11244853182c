use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, histogram};

use crate::telemetry::Handles;
use crate::telemetry::metric::{HTTP_REQUEST_SECONDS, HTTP_REQUESTS};

/// The labels by which requests are counted: method, pattern of the route, and status.
type Labels = (&'static str, Box<str>, StatusCode);

/// Counts the requests of one service, with one handle for each combination of method, route and status.
pub(super) struct RequestCounts {
    service: &'static str,
    handles: Handles<Labels, (Counter, Histogram)>,
}

impl RequestCounts {
    pub(super) const fn new(service: &'static str) -> Self {
        Self { service, handles: Handles::new() }
    }

    pub(super) const fn service(&self) -> &'static str {
        self.service
    }

    pub(super) fn count(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = method_label(method);
        self.handles.with(
            |(known_method, known_route, known_status)| {
                *known_status == status && **known_route == *route && *known_method == method
            },
            || ((method, route.into(), status), self.register(method, route, status)),
            |(requests, seconds)| {
                requests.increment(1);
                seconds.record(took.as_secs_f64());
            },
        );
    }

    fn register(&self, method: &'static str, route: &str, status: StatusCode) -> (Counter, Histogram) {
        let (service, route, status) = (self.service, route.to_owned(), status.as_str().to_owned());
        let requests = counter!(
            HTTP_REQUESTS.name, "service" => service, "method" => method, "route" => route.clone(), "status" => status
        );
        let seconds = histogram!(HTTP_REQUEST_SECONDS.name, "service" => service, "method" => method, "route" => route);
        (requests, seconds)
    }
}

/// A client may invent methods, which must not become labels.
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
