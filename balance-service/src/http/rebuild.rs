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
use serde_json::json;
use shared::backends::Backends;
use shared::error::BackendError;
use shared::http::{AnswerHeader, NoBody, NoParams, Problem, QueryParams, Reason, TimeAllowance, Unavailable};
use tokio::time::Instant;
use tracing::warn;
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt};

use super::refusals::{CancelRefusals, JobRunning, JobUnavailable, NothingTaken, RollbackRefusals, StatusRefusals};
use super::{BalanceApi, RebuildView};
use crate::rebuild::{RebuildRefusal, RebuildStatus, look_again_after};

/// How long a watched job cannot be read before its stream ends without it: longer than a server takes to restart.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Where a job is watched.
const STATUS_PATH: &str = "/balance/rebuild/status";

/// What whoever starts a job is told, as `/openapi.json` describes it.
pub(super) const STATUS_LOCATION: AnswerHeader = AnswerHeader::new("Location", "Path of the status of the job");

/// What to do about a request that may have taken effect. A job that runs is not started twice, but one that has ended
/// meanwhile would be, and a second rollback turns the first one back.
const LOOK_FIRST: &str = "the request may have taken effect; look at GET /balance/rebuild/status, and ask again only \
                          if it did not";

/// What whoever watches a job is told when it cannot be read. The driver's message is for the service's log only.
const UNREAD: &str = "a backend does not answer, and the log of the balance service says why; the job goes on without \
                      being watched, so connect again";

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
///
/// The events are named `status` and hold the job. If it cannot be read for 30 seconds, the last event is `failed` with
/// the reason in `detail`; the job goes on. If the service stops, the stream ends without an event.
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
            let detail = "a job is running; wait until it ends, or cancel it with DELETE /balance/rebuild";
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

/// What a stream has told of a job, and when it looks again.
#[derive(Default)]
struct Watching {
    /// The job as it was told last.
    text: String,
    /// Whether nothing is left to be told.
    is_over: bool,
    /// The pause before the next look; `None` before the first, which is made at once.
    pause: Option<Duration>,
    /// Since when the job cannot be read.
    unread_since: Option<Instant>,
}

impl Watching {
    /// The name and the data of the event that tells what a look has found, if it is to be told.
    fn told(
        &mut self,
        found: Result<Option<RebuildStatus>, BackendError>,
        now: Instant,
    ) -> Option<(&'static str, String)> {
        match found {
            Ok(found) => {
                self.unread_since = None;
                let Some(job) = found.map(RebuildView::from) else {
                    self.is_over = true;
                    return None;
                };
                self.pause = Some(look_again_after(job.partitions.len()));
                let text = serde_json::to_string(&job).unwrap_or_default();
                if text == self.text {
                    return None;
                }
                self.is_over = !job.state.is_running();
                self.text.clone_from(&text);
                Some(("status", text))
            }
            Err(failure) => {
                self.pause.get_or_insert_with(|| look_again_after(0));
                let since = *self.unread_since.get_or_insert(now);
                if now.duration_since(since) < UNREAD_MAX {
                    return None;
                }
                warn!(%failure, "the job cannot be read, a client watches it no longer");
                self.is_over = true;
                Some(("failed", json!({ "detail": UNREAD }).to_string()))
            }
        }
    }
}

/// The job whenever it has changed, until it is over, cannot be read for [`UNREAD_MAX`], or the service stops. To
/// continue, a client connects again.
fn events<B: Backends>(api: BalanceApi<B>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((api, Watching::default()), |(api, mut watching)| async move {
        let event = api.next_event(&mut watching).await?;
        Some((Ok(event), (api, watching)))
    })
}

impl<B: Backends> BalanceApi<B> {
    async fn next_event(&self, watching: &mut Watching) -> Option<Event> {
        while !watching.is_over {
            // A busy job changes with every batch.
            if let Some(pause) = watching.pause {
                tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => return None,
                    () = tokio::time::sleep(pause) => {}
                }
            }
            let found = self.rebuilds.status().await;
            if let Some((name, data)) = watching.told(found, Instant::now()) {
                return Some(Event::default().event(name).data(data));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Timestamp;
    use uuid::Uuid;

    use crate::rebuild::{Job, JobId, JobState, Purpose};

    /// A job in this state, as a look finds it.
    fn found(state: JobState) -> RebuildStatus {
        let job = Job { state, ..Job::new(JobId(Uuid::nil()), Purpose::Rebuild, None, Timestamp::EPOCH) };
        RebuildStatus { job, partitions: Vec::new(), events_per_second: None, eta_seconds: None }
    }

    fn unread() -> Result<Option<RebuildStatus>, BackendError> {
        Err(BackendError::not_done("checkpoint", "10.0.0.7 is away"))
    }

    #[test]
    fn a_watched_job_that_cannot_be_read_is_told_only_after_a_while_and_once() {
        let (mut watching, began) = (Watching::default(), Instant::now());
        let mut name_of = |found, at: Duration| watching.told(found, began + at).map(|(name, _)| name);
        let nearly = UNREAD_MAX.saturating_sub(Duration::from_millis(1));
        assert_eq!(name_of(Ok(Some(found(JobState::Replaying))), Duration::ZERO), Some("status"));
        assert_eq!(name_of(unread(), nearly), None);
        assert_eq!(name_of(Ok(Some(found(JobState::Replaying))), UNREAD_MAX), None, "it has not changed");
        assert_eq!(name_of(unread(), UNREAD_MAX), None, "counted anew");
        assert_eq!(name_of(unread(), UNREAD_MAX + nearly), None);
        let (name, data) = watching.told(unread(), began + UNREAD_MAX * 2).unwrap();
        assert_eq!((name, watching.is_over), ("failed", true));
        assert!(data.contains("connect again") && !data.contains("10.0.0.7"), "{data}");
    }

    #[test]
    fn the_last_event_is_that_of_the_end_and_no_look_follows_another_without_a_pause() {
        let (mut watching, now) = (Watching::default(), Instant::now());
        assert_eq!(watching.told(unread(), now), None);
        assert_eq!(watching.pause, Some(look_again_after(0)));
        let (name, data) = watching.told(Ok(Some(found(JobState::Done))), now).unwrap();
        assert!(name == "status" && data.contains(r#""state":"done""#) && watching.is_over, "{data}");
    }

    #[test]
    fn a_request_of_unknown_outcome_is_told_to_look_at_the_job_first() {
        let unknown = refused(RebuildRefusal::Backend(BackendError::unknown("write the job", "the disk is full")));
        assert_eq!(unknown, Problem::new(Reason::OutcomeUnknown).detail(LOOK_FIRST).without_retry());
        assert!(LOOK_FIRST.contains(STATUS_PATH));
        let not_done = refused(RebuildRefusal::Backend(BackendError::not_done("read the job", "away")));
        assert_eq!(not_done.reason(), Reason::Unavailable);
    }
}
