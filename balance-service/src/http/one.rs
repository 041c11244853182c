//! One balance, at once or as soon as it has the version the client knows of.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Deserializer};
use shared::backends::Backends;
use shared::coordinate::Version;
use shared::http::{PathId, Problem, QueryParams, Reason, TimeAllowance, whole_within};
use shared::id::AccountId;
use shared::index::{Balance, BalanceIndex, QueryError};
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::refusals::BalanceRefusals;
use super::{BalanceApi, BalanceView, refused};
use crate::parking::parked_at;

/// The longest wait a client may ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The first pause between two looks when another process writes the document. Most are written within milliseconds.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(2);

/// The longest of these pauses.
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(50);

/// The first pause when this process writes the document: the wait is woken, and looks only because another process may
/// have just written the document, or another generation may answer queries since the last look.
const TOLD_LOOK_AGAIN_MIN: Duration = Duration::from_millis(50);

/// The longest of these pauses. A view that is late makes many queries wait, and each look costs it as much as a write.
const TOLD_LOOK_AGAIN_MAX: Duration = Duration::from_millis(500);

/// How long a query waits before it looks whether its account is parked, which takes two more calls of the index. By
/// then nearly every version is there. It looks again whenever it has waited twice as long. One that does not wait as
/// long does not look: clients that ask again and again would cost the index three calls each time.
const PARKED_LOOK_AFTER: Duration = Duration::from_secs(1);

/// How long such a look may take, since meanwhile nobody looks whether the version is there.
const PARKED_LOOK_TIME_MAX: Duration = Duration::from_secs(1);

/// A query that waits as long as this looks once at least, and has time for it.
const PARKED_TOLD_FROM: Duration = PARKED_LOOK_AFTER.saturating_add(PARKED_LOOK_TIME_MAX);

/// The pauses between the looks of one wait; each is twice as long as the one before, within bounds.
#[derive(Debug, Default)]
struct Pauses(Duration);

impl Pauses {
    /// The next one. Whether the wait is told of writes is asked each time: partitions change hands.
    fn next_if(&mut self, is_told: bool) -> Duration {
        let (shortest, longest) =
            if is_told { (TOLD_LOOK_AGAIN_MIN, TOLD_LOOK_AGAIN_MAX) } else { (LOOK_AGAIN_MIN, LOOK_AGAIN_MAX) };
        self.0 = (self.0 * 2).clamp(shortest, longest);
        self.0
    }
}

/// The version the client knows of, and how long to wait for it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitParams {
    /// Minimum version of the balance.
    #[param(value_type = Option<u64>)]
    min_version: Option<Version>,
    /// How long to wait for `min_version`, in milliseconds: at most 30000; default 0.
    #[param(value_type = Option<u64>, maximum = 30_000)]
    wait_ms: Option<Wait>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Wait(Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        whole_within(deserializer, 0..=WAIT_MAX.as_millis()).map(|millis| Self(Duration::from_millis(millis)))
    }
}

/// Get the balance of an account; with `min_version`, never an older one.
#[utoipa::path(get, path = "/balance/{id}", tag = "balances",
    params(("id" = Uuid, Path, description = "Account id"), WaitParams),
    responses(
        (status = 200, description = "The balance", body = BalanceView),
        BalanceRefusals,
    ),
)]
pub(super) async fn one<B: Backends>(
    State(api): State<BalanceApi<B>>,
    PathId(account): PathId<AccountId>,
    QueryParams(params): QueryParams<WaitParams>,
    time: TimeAllowance,
) -> Result<Json<BalanceView>, Problem> {
    let found = match (params.min_version, params.wait_ms) {
        (None, Some(_)) => return Err(Problem::invalid("wait_ms", "requires min_version")),
        (None, None) => api.backends.index().get(account).await.map_err(refused)?,
        (Some(version), wait) => {
            let wait = wait.unwrap_or_default().0;
            time.extend(wait);
            Some(api.at_least(account, version, wait).await?).flatten()
        }
    };
    match found {
        Some(found) => Ok(Json(found.into())),
        None => Err(not_shown(account, api.parked_at(account, Instant::now() + PARKED_LOOK_TIME_MAX).await)),
    }
}

impl<B: Backends> BalanceApi<B> {
    /// Where the account is parked, if it is. If that cannot be found out in time, the query is treated like any other
    /// that is early.
    async fn parked_at(&self, account: AccountId, until: Instant) -> Option<Version> {
        timeout_at(until, parked_at(&self.backends, account)).await.ok()?.ok()?
    }

    /// What a look finds, unless the document is written or the service stops meanwhile.
    async fn unless_woken<T>(&self, written: impl Future<Output = ()>, look: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            () = written => None,
            found = look => Some(found),
        }
    }

    /// The document at this version or a later one; `None` only if any version is good enough and there is no document.
    /// A bank whose first view is being built shows no version yet, so the view is waited for as well.
    async fn at_least(&self, account: AccountId, min: Version, wait: Duration) -> Result<Option<Balance>, Problem> {
        let began = Instant::now();
        let (deadline, mut parked_look) = (began + wait, began + PARKED_LOOK_AFTER);
        let watch = self.visibility.watch(account);
        let mut pauses = Pauses::default();
        loop {
            // Registered before the look, so that a write between look and wait is not missed.
            let mut written = std::pin::pin!(watch.written());
            written.as_mut().enable();
            let last_look = Instant::now() >= deadline;
            match self.backends.index().get(account).await {
                Ok(found) => {
                    let version = Balance::version_of(found.as_ref());
                    if version >= min {
                        return Ok(found);
                    }
                    if last_look {
                        return Err(not_yet(min, version, None));
                    }
                    let now = Instant::now();
                    if now >= parked_look {
                        parked_look = now + now.duration_since(began);
                        let look = self.parked_at(account, deadline.min(now + PARKED_LOOK_TIME_MAX));
                        let parked_at = self.unless_woken(written.as_mut(), look).await.flatten();
                        if let Some(at) = parked_at.filter(|at| *at <= min) {
                            return Err(not_yet(min, version, Some(at)));
                        }
                    }
                }
                Err(QueryError::NoGeneration) if !last_look => {}
                Err(error) => return Err(refused(error)),
            }
            let now = Instant::now();
            let next = deadline.min(now + pauses.next_if(watch.is_told()));
            let next = if now < parked_look { next.min(parked_look) } else { next };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Err(stopping()),
                () = written => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }
}

/// An account that was just opened is in the store before it is in the view, and one that is parked at its first event
/// is not in the view at all.
fn not_shown(account: AccountId, parked_at: Option<Version>) -> Problem {
    let problem = Problem::new(Reason::AccountNotFound);
    match parked_at {
        Some(at) => parked(problem, &format!("the projection does not show account {account}"), at),
        None => problem.detail(format!(
            "the projection has no account {account}; if it was just opened, ask with min_version=1&wait_ms=2000"
        )),
    }
}

/// A wait would hold up the shutdown, and another replica may have the version.
fn stopping() -> Problem {
    Problem::new(Reason::Unavailable).detail("the service is shutting down; retry")
}

/// Whoever does not wait may ask again and again about an account that is parked, so it is told how to find that out.
fn not_yet(min: Version, version: Version, parked_at: Option<Version>) -> Problem {
    let problem = Problem::new(Reason::NotYetVisible).member("version", version.get()).member("min_version", min.get());
    let reached = format!("the projection is at version {}, not yet {}", version.get(), min.get());
    let (most, told_from) = (WAIT_MAX.as_millis(), PARKED_TOLD_FROM.as_millis());
    match parked_at {
        Some(at) => parked(problem, &reached, at),
        None => problem.detail(format!(
            "{reached}; ask again, or raise wait_ms (at most {most}; from {told_from} on the answer tells whether the \
             account is parked)"
        )),
    }
}

/// Says that a version will not be there before an operator acts. The reason is for operators: it may quote an event.
fn parked(problem: Problem, refusal: &str, at: Version) -> Problem {
    let cause = format!("it is parked at version {}, which cannot be folded, until an operator acts", at.get());
    problem.detail(format!("{refusal}; {cause}: see GET /balance/parked")).member("parked_at", at.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a wait of this length looks if nothing wakes it.
    fn looks(wait: Duration, is_told: bool) -> usize {
        let (mut pauses, mut waited, mut looks) = (Pauses::default(), Duration::ZERO, 1);
        while waited < wait {
            waited += pauses.next_if(is_told);
            looks += 1;
        }
        looks
    }

    #[test]
    fn a_wait_that_is_told_of_writes_looks_seldom_and_the_later_the_view_the_more_so() {
        let (soon, late) = (Duration::from_millis(50), Duration::from_secs(5));
        assert_eq!((looks(soon, true), looks(late, true), looks(WAIT_MAX, true)), (2, 14, 64));
        assert_eq!((looks(soon, false), looks(late, false)), (6, 105));
    }

    #[test]
    fn a_wait_that_is_no_longer_told_of_writes_looks_often_again() {
        let mut pauses = Pauses::default();
        for _ in 0..10 {
            pauses.next_if(true);
        }
        assert_eq!(pauses.next_if(true), TOLD_LOOK_AGAIN_MAX);
        assert_eq!((pauses.next_if(false), pauses.next_if(true)), (LOOK_AGAIN_MAX, LOOK_AGAIN_MAX * 2));
    }
}
