use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Reason;
use crate::error::{BackendError, Effect, Retry};
use crate::telemetry::Seldom;

/// The media type of every refusal.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How long a client is asked to wait if the backend did not say.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// A backend that is away fails every request.
static BACKEND_FAILED: FailureLines = FailureLines::new();

/// The lines about failed backends. Each effect has its own, so that reads, which never have any, do not keep from the
/// log why the outcome of a command is unknown.
struct FailureLines {
    without_effect: Seldom,
    of_unknown_outcome: Seldom,
}

impl FailureLines {
    const fn new() -> Self {
        Self { without_effect: Seldom::new(), of_unknown_outcome: Seldom::new() }
    }

    fn about(&self, effect: Effect) -> &Seldom {
        match effect {
            Effect::None => &self.without_effect,
            Effect::Unknown => &self.of_unknown_outcome,
        }
    }
}

/// A refusal as sent over the wire (RFC 9457). Its cause goes to the log, never into the answer.
///
/// ```
/// use shared::http::{Problem, Reason};
/// let problem = Problem::new(Reason::InsufficientFunds).detail("50 are there, 80 are needed");
/// assert_eq!(problem.status().as_u16(), 422);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    reason: Reason,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    members: Map<String, Value>,
}

/// What is wrong with one field, parameter or header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Path, such as `from` or `lines[2].money`; empty for the request as a whole.
    pub field: String,
    /// What is wrong, for people.
    pub message: String,
}

/// A problem (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Type of the problem: `/problems/` followed by the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// Summary of the problem type, for people.
    pub title: &'static str,
    /// HTTP status code.
    pub status: u16,
    /// Explanation of this occurrence, for people.
    pub detail: Cow<'static, str>,
    /// Stable, machine-readable code of the problem type.
    #[schema(schema_with = Reason::code_schema)]
    pub code: &'static str,
    /// The invalid fields, parameters or headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Members of this problem type alone.
    #[serde(flatten)]
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub members: Map<String, Value>,
}

impl Problem {
    /// The path does not support the method; the answer names those it does in `Allow`.
    #[must_use]
    pub fn other_methods() -> Self {
        let detail = "this path has other methods, which the Allow header names; /openapi.json lists all paths";
        Self::new(Reason::MethodNotAllowed).detail(detail)
    }

    /// A refusal for this reason; with status 503 it says when to retry.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        let retry_after =
            (reason.status() == axum::http::StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_DEFAULT);
        Self { reason, detail: reason.title().into(), errors: Vec::new(), retry_after, members: Map::new() }
    }

    /// A refusal of one field, parameter or header.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::ValidationFailed).error(field, message)
    }

    /// Explains this occurrence to people. No personal data.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds what is wrong with one field, parameter or header. The first one is also the detail, unless that was set.
    #[must_use]
    pub fn error(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        if self.errors.is_empty() && self.detail == self.reason.title() {
            self.detail = if field.is_empty() { message.clone() } else { format!("{field}: {message}") }.into();
        }
        self.errors.push(FieldError { field, message });
        self
    }

    /// Asks the client to wait this long; rounded up to whole seconds.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Asks the client not to come back by itself: a repeat could do the same once more.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.retry_after = None;
        self
    }

    /// Adds an extension member, such as the version the view has. The standard members cannot be replaced.
    #[must_use]
    pub fn member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        debug_assert!(!["type", "title", "status", "detail", "code", "errors"].contains(&name), "{name} is standard");
        self.members.insert(name.into(), value.into());
        self
    }

    /// The reason.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> axum::http::StatusCode {
        self.reason.status()
    }
}

/// A backend failure becomes a 503: the client learns whether the call may have taken effect and, if it had none, when
/// to retry; every now and then the log learns why.
impl From<BackendError> for Problem {
    fn from(failure: BackendError) -> Self {
        if let Some(left_out) = BACKEND_FAILED.about(failure.effect).due() {
            let BackendError { operation, effect, source: cause, .. } = &failure;
            tracing::warn!(operation, ?effect, %cause, left_out, "backend failed");
        }
        match failure.effect {
            Effect::None => {
                let problem = Self::new(Reason::Unavailable).detail(
                    "a backend failed, and the request had no effect; send it again, and if that does not help, see \
                     GET /readyz and the log of the service",
                );
                match failure.retry {
                    Retry::After(wait) => problem.retry_after(wait),
                    Retry::Later | Retry::Never => problem,
                }
            }
            Effect::Unknown => Self::new(Reason::OutcomeUnknown)
                .detail("a backend failed, and the request may have taken effect; look before you repeat it")
                .without_retry(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = ProblemBody {
            kind: self.reason.type_uri(),
            title: self.reason.title(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.reason.code(),
            errors: self.errors,
            members: self.members,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

/// Rounded up, and at least one: zero would mean at once.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn an_outage_of_a_backend_fills_no_log_however_many_ask() {
        let lines = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lines);
        let each_line = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            io::sink()
        };
        let _guard = tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(each_line).finish());
        tracing::callsite::rebuild_interest_cache();
        for _ in 0..100 {
            assert_eq!(Problem::from(BackendError::not_done("get", "away")).reason(), Reason::Unavailable);
        }
        // In a slow run, the line may come again after ten seconds.
        let logged = lines.load(Ordering::Relaxed);
        assert!(logged <= 10, "{logged} lines");
    }

    #[test]
    fn why_an_outcome_is_unknown_is_logged_though_reads_fail_all_the_time() {
        let lines = FailureLines::new();
        assert_eq!(lines.about(Effect::None).due(), Some(0));
        assert_eq!(lines.about(Effect::Unknown).due(), Some(0));
    }

    #[test]
    fn a_client_is_told_when_to_come_back_only_if_nothing_happened() {
        let disk_pause = Duration::from_secs(7);
        let full = |failure| Problem::from(BackendError { retry: Retry::After(disk_pause), ..failure }).retry_after;
        assert_eq!(full(BackendError::not_done("write the job", "the disk is full")), Some(disk_pause));
        assert_eq!(full(BackendError::unknown("write the job", "the disk is full")), None);
    }

    #[test]
    fn a_failed_backend_is_told_with_what_to_do_next_and_without_its_cause() {
        let not_done = Problem::from(BackendError::not_done("append", "10.0.0.7 is away"));
        assert_eq!(not_done.reason(), Reason::Unavailable);
        assert!(not_done.detail.contains("had no effect; send it again"), "{}", not_done.detail);
        let unknown = Problem::from(BackendError::unknown("append", "10.0.0.7 is away"));
        assert_eq!(unknown.reason(), Reason::OutcomeUnknown);
        assert!(unknown.detail.ends_with("; look before you repeat it"), "{}", unknown.detail);
        for problem in [not_done, unknown] {
            assert!(!problem.detail.contains("10.0.0.7"), "{}", problem.detail);
        }
    }
}
