//! Rebuilds and rollbacks as an operator requests and watches them, even while processes and servers die.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::customers::{ASK, PATIENCE, is_away};
use crate::tally::{Count, Tally};

/// A pause between two looks at a job.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The counts that must be 0 in a verification.
pub(crate) const FAULTS: [&str; 6] = ["missing", "behind", "diverged", "orphans", "ahead", "parked"];

/// The states of a running job, in order.
pub(crate) const STATES: [&str; 4] = ["replaying", "catching_up", "verifying", "switching"];

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Rebuild,
    Cancel,
    Rollback,
}

impl Request {
    const fn method_and_path(self) -> (Method, &'static str) {
        match self {
            Self::Rebuild => (Method::POST, "/balance/rebuild"),
            Self::Cancel => (Method::DELETE, "/balance/rebuild"),
            Self::Rollback => (Method::POST, "/balance/rebuild/rollback"),
        }
    }
}

/// All balance services of a bank.
pub(crate) struct Jobs {
    tally: Arc<Tally>,
    views: Vec<String>,
}

impl Jobs {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self { tally: Arc::clone(cluster.tally()), views: cluster.views() }
    }

    /// Sends a request to one of them; `None` if it is away.
    pub(crate) async fn send(&self, request: Request, number: usize) -> Option<(StatusCode, Value)> {
        let (method, path) = request.method_and_path();
        let url = format!("{}{path}", self.views[number % self.views.len()]);
        let answer = ASK.request(method, url).timeout(PATIENCE).send().await.ok()?;
        let status = answer.status();
        if is_away(status) {
            return None;
        }
        Some((status, answer.json().await.ok()?))
    }

    /// Begins a job and returns it. If the request was not answered, the job is found running.
    pub(crate) async fn begin(&self, request: Request) -> Value {
        let begun = timeout(PATIENCE, async {
            for number in 0.. {
                match self.send(request, number).await {
                    Some((StatusCode::ACCEPTED, job)) => return job,
                    Some((StatusCode::CONFLICT, refusal)) if refusal["running"].is_object() => {
                        return refusal["running"].clone();
                    }
                    Some((status, answer)) => panic!("{request:?}: {status} {answer}"),
                    None => sleep(LOOK_EVERY).await,
                }
            }
            unreachable!("numbers do not end")
        });
        let job = begun.await.unwrap_or_else(|_| panic!("{request:?} is taken"));
        self.tally.add(Count::Rebuilds, usize::from(request == Request::Rebuild));
        job
    }

    /// The running or last job, from the first service that answers.
    pub(crate) async fn status(&self) -> Value {
        let answered = timeout(PATIENCE, async {
            for view in self.views.iter().cycle() {
                if let Ok(answer) = ASK.get(format!("{view}/balance/rebuild/status")).send().await
                    && answer.status() == StatusCode::OK
                    && let Ok(job) = answer.json().await
                {
                    return job;
                }
                sleep(LOOK_EVERY).await;
            }
            unreachable!("a cycle does not end")
        });
        answered.await.expect("a balance service knows the job")
    }

    /// Waits until the job is as wanted, and returns it.
    pub(crate) async fn wait_until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let in_time = timeout(PATIENCE, async {
            loop {
                last = self.status().await;
                if wanted(&last) {
                    return;
                }
                sleep(LOOK_EVERY).await;
            }
        });
        let in_time = in_time.await.is_ok();
        assert!(in_time, "the job stays {last}");
        last
    }

    /// Waits until this job is over, and returns it.
    pub(crate) async fn wait_over(&self, job: &Value) -> Value {
        let over = self.wait_until(|status| status["job"] != job["job"] || !status["finished_at"].is_null()).await;
        assert_eq!(over["job"], job["job"], "another job began");
        over
    }

    /// Waits until a rebuild has switched, which it does only after its verification.
    pub(crate) async fn wait_switched(&self, job: &Value) -> Value {
        let over = self.wait_over(job).await;
        assert_eq!(over["state"], "done", "{over}");
        if over["purpose"] != "rollback" {
            for fault in FAULTS {
                assert_eq!(over["verification"][fault], 0, "{over}");
            }
        }
        over
    }

    /// Waits until a job has reached or passed one of [`STATES`].
    pub(crate) async fn wait_state(&self, job: &Value, state: usize) {
        self.wait_until(|status| place(job, status).is_none_or(|place| place >= state)).await;
    }

    /// Which of [`STATES`] a job is in; `None` if it is over.
    pub(crate) async fn state(&self, job: &Value) -> Option<usize> {
        place(job, &self.status().await)
    }
}

/// Which of [`STATES`] a job has by this status; `None` if it is over, or the status is that of another job.
fn place(job: &Value, status: &Value) -> Option<usize> {
    let is_same = status["job"] == job["job"];
    STATES.iter().position(|state| is_same && status["state"] == *state)
}
