//! Rebuilds: start one, watch it, cancel it, roll back.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, ALLOW, CACHE_CONTROL, LOCATION};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use futures::stream::{self, Stream};
use shared::backends::Backends;
use shared::http::{AnswerHeader, NoBody, NoParams, Problem, QueryParams, Reason, TimeAllowance, Unavailable};
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt};

use super::refusals::{CancelRefusals, JobRunning, JobUnavailable, NothingTaken, RollbackRefusals, StatusRefusals};
use super::{BalanceApi, RebuildView};
use crate::rebuild::RebuildRefusal;

/// How often a watched job is polled.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where a job is watched.
const STATUS_PATH: &str = "/balance/rebuild/status";

/// What whoever starts a job is told, as `/openapi.json` describes it.
pub(super) const STATUS_LOCATION: AnswerHeader = AnswerHeader::new("Location", "Path of the status of the job");

/// What to do about a request that may have taken effect. A job that runs is not started twice, but one that has ended
/// meanwhile would be, and a second rollback turns the first one back.
const LOOK_FIRST: &str = "the request may have taken effect; look at GET /balance/rebuild/status, and ask again only \
                          if it did not";

type Started = (StatusCode, [(HeaderName, &'static str); 2], Json<RebuildView>);

fn started(status: impl Into<RebuildView>) -> Started {
    // Starting by GET is an old habit of clients; a cache must not answer it.
    (StatusCode::ACCEPTED, [(LOCATION, STATUS_PATH), (CACHE_CONTROL, "no-store")], Json(status.into()))
}

/// Start a rebuild of the projection from the event store, beside the active generation.
///
/// The generation that is kept for a rollback is discarded, even if the rebuild is cancelled or fails.
#[utoipa::path(post, path = "/balance/rebuild", tag = "rebuild", responses(
    (status = 202, description = "Started; `Location` is the status of the job", body = RebuildView),
    NothingTaken,
    JobRunning,
    JobUnavailable,
))]
pub(super) async fn start<B: Backends>(
    State(api): State<BalanceApi<B>>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
    _: NoBody,
) -> Result<Started, Problem> {
    api.rebuilds.start().await.map(started).map_err(refused)
}

/// Start a rebuild, for clients that can only GET.
///
/// The generation that is kept for a rollback is discarded, even if the rebuild is cancelled or fails.
#[utoipa::path(get, path = "/balance/rebuild", tag = "rebuild", responses(
    (status = 202, description = "Started; `Location` is the status of the job", body = RebuildView),
    NothingTaken,
    JobRunning,
    JobUnavailable,
))]
pub(super) async fn start_by_get<B: Backends>(
    api: State<BalanceApi<B>>,
    params: QueryParams<NoParams>,
    time: TimeAllowance,
    body: NoBody,
) -> Result<Started, Problem> {
    time.takes_effect();
    start(api, params, body).await
}

/// Get the running or last job; with `Accept: text/event-stream`, an event for each change until it ends.
#[utoipa::path(get, path = "/balance/rebuild/status", tag = "rebuild", responses(
    (status = 200, description = "The job", content((RebuildView = "application/json"), (String = "text/event-stream"))),
    StatusRefusals,
    Unavailable,
))]
pub(super) async fn status<B: Backends>(
    State(api): State<BalanceApi<B>>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let status = api.rebuilds.status().await?.ok_or_else(|| Problem::new(Reason::NoRebuild))?;
    if wants_events(&headers) {
        return Ok(Sse::new(events(api)).keep_alive(KeepAlive::default()).into_response());
    }
    Ok(([(CACHE_CONTROL, "no-store")], Json(RebuildView::from(status))).into_response())
}

/// Cancel the running job, unless it is already switching; its generation is discarded.
///
/// A generation that was kept for a rollback was discarded when the rebuild started, and does not come back.
#[utoipa::path(delete, path = "/balance/rebuild", tag = "rebuild", responses(
    (status = 200, description = "Cancelled", body = RebuildView),
    NothingTaken,
    CancelRefusals,
    JobUnavailable,
))]
pub(super) async fn cancel<B: Backends>(
    State(api): State<BalanceApi<B>>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
    _: NoBody,
) -> Result<Json<RebuildView>, Problem> {
    api.rebuilds.cancel().await.map(|status| Json(status.into())).map_err(refused)
}

/// Switch queries back to the previous generation, while it is kept.
#[utoipa::path(post, path = "/balance/rebuild/rollback", tag = "rebuild", responses(
    (status = 202, description = "Started; `Location` is the status of the job", body = RebuildView),
    NothingTaken,
    RollbackRefusals,
    JobUnavailable,
))]
pub(super) async fn rollback<B: Backends>(
    State(api): State<BalanceApi<B>>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
    _: NoBody,
) -> Result<Started, Problem> {
    api.rebuilds.rollback().await.map(started).map_err(refused)
}

/// Refuses HEAD where a GET starts something: axum routes HEAD to GET by default, and a client that sends HEAD wants
/// nothing to happen. `allowed` are the methods of the path, without HEAD, which axum would include.
pub(super) fn without_head<S>(allowed: &'static str, route: UtoipaMethodRouter<S>) -> UtoipaMethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let refused = move || async move { ([(ALLOW, allowed)], Problem::other_methods()) };
    route.map(|route: MethodRouter<S>| route.head(refused).fallback(refused))
}

fn refused(refusal: RebuildRefusal) -> Problem {
    match refusal {
        RebuildRefusal::Running(status) => {
            let running = serde_json::to_value(RebuildView::from(*status)).unwrap_or_default();
            let detail = "wait until it ends, or cancel it with DELETE /balance/rebuild";
            Problem::new(Reason::RebuildRunning).detail(detail).member("running", running)
        }
        RebuildRefusal::NothingToCancel => Problem::new(Reason::NoRebuild).detail("no rebuild is running"),
        RebuildRefusal::TooLate => Problem::new(Reason::RebuildNotCancellable).detail(refusal.to_string()),
        RebuildRefusal::NoPrevious => {
            let detail = "no previous generation is kept; a rebuild keeps the one it replaces for \
                          BANK_KEEP_PREVIOUS_SECS, and the next rebuild discards it";
            Problem::new(Reason::NothingToRollBack).detail(detail)
        }
        RebuildRefusal::Backend(failure) => {
            let problem = Problem::from(failure);
            if problem.reason() == Reason::OutcomeUnknown { problem.detail(LOOK_FIRST) } else { problem }
        }
    }
}

fn wants_events(headers: &HeaderMap) -> bool {
    let mut kinds =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|kinds| kinds.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"))
}

/// The last event of a stream.
#[derive(Default)]
struct Told {
    text: String,
    over: bool,
}

/// The job whenever it has changed, until it is over, a backend fails, or the service stops. To continue, a client
/// connects again.
fn events<B: Backends>(api: BalanceApi<B>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((api, Told::default()), |(api, told)| async move {
        let told = api.next_change(told).await?;
        let event = Event::default().event("status").data(&told.text);
        Some((Ok(event), (api, told)))
    })
}

impl<B: Backends> BalanceApi<B> {
    async fn next_change(&self, told: Told) -> Option<Told> {
        if told.over {
            return None;
        }
        // The first state is sent at once; later ones after a pause, since a busy job changes with every batch.
        let mut first = told.text.is_empty();
        loop {
            if !std::mem::take(&mut first) {
                tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => return None,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            let status = RebuildView::from(self.rebuilds.status().await.ok()??);
            let text = serde_json::to_string(&status).ok()?;
            if text != told.text {
                return Some(Told { text, over: !status.state.is_running() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::error::BackendError;

    #[test]
    fn a_request_of_unknown_outcome_is_told_to_look_at_the_job_first() {
        let unknown = refused(RebuildRefusal::Backend(BackendError::unknown("write the job", "the disk is full")));
        assert_eq!(unknown, Problem::new(Reason::OutcomeUnknown).detail(LOOK_FIRST).without_retry());
        assert!(LOOK_FIRST.contains(STATUS_PATH));
        let not_done = refused(RebuildRefusal::Backend(BackendError::not_done("read the job", "away")));
        assert_eq!(not_done.reason(), Reason::Unavailable);
    }
}
