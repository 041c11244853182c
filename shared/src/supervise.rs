//! Every task has a name and an answer to "what if it dies?".
//!
//! A [`Supervisor`] runs tasks that end when the shutdown token is cancelled. A task that fails or panics is either
//! restarted after a growing delay, or stops the whole process in order, as its [`OnFailure`] says.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use metrics::counter;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::telemetry::metric::TASK_RESTARTS;

/// The first delay before a failed task is started again; it doubles up to [`RESTART_DELAY_MAX`].
const RESTART_DELAY_MIN: Duration = Duration::from_millis(100);

/// The longest delay before a failed task is started again.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);

/// A task that ran this long before it failed is started again after the shortest delay.
const STEADY_AFTER: Duration = Duration::from_secs(30);

/// How long a task that failed waits before it is started again: twice as long each time, from 100 ms to 5 s, unless
/// it ran well for half a minute.
#[derive(Debug, Default)]
pub struct RestartDelays {
    last: Option<Duration>,
}

impl RestartDelays {
    /// The delay after a run that took this long.
    pub fn after(&mut self, ran: Duration) -> Duration {
        let last = self.last.filter(|_| ran < STEADY_AFTER);
        let delay = last.map_or(RESTART_DELAY_MIN, |last| (last * 2).min(RESTART_DELAY_MAX));
        self.last = Some(delay);
        delay
    }
}

/// What happens when a task fails or panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is started again, after a delay that grows while it keeps failing.
    Restart,
    /// Everything else is asked to stop, and the process ends with an error.
    StopProcess,
}

/// A task whose failure stopped the process.
#[derive(Debug, thiserror::Error)]
#[error("task {name} failed: {reason}")]
pub struct TaskFailure {
    /// The task.
    pub name: String,
    /// Why it failed.
    pub reason: String,
}

/// Runs named tasks until shutdown. Dropping it aborts them all.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: CancellationToken,
    tasks: JoinSet<Result<(), TaskFailure>>,
}

impl Supervisor {
    /// A supervisor whose tasks end with `shutdown`, and which cancels it when a task fails that must not.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { shutdown, tasks: JoinSet::new() }
    }

    /// Starts a task. `attempt` starts one run of it and is called again for every restart; a task whose run ends
    /// without an error is not restarted.
    pub fn spawn<A, F, E>(&mut self, name: impl Into<String>, on_failure: OnFailure, attempt: A)
    where
        A: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        self.tasks.spawn(keep_running(name.into(), on_failure, attempt, self.shutdown.clone()));
    }

    /// Starts a task whose every run is given a clone of `context`.
    pub fn spawn_with<C, A, F, E>(&mut self, name: impl Into<String>, on_failure: OnFailure, context: C, mut attempt: A)
    where
        C: Clone + Send + 'static,
        A: FnMut(C) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        self.spawn(name, on_failure, move || attempt(context.clone()));
    }

    /// Waits until every task has ended. The first failure of a task that must not fail cancels the shutdown token, so
    /// that the others end in order, and is returned.
    ///
    /// # Errors
    /// The failure of the task that must not fail.
    pub async fn wait(mut self) -> Result<(), TaskFailure> {
        let mut first = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let Ok(Err(failure)) = ended else { continue };
            error!(task = failure.name, reason = failure.reason, "task failed, stopping the process");
            self.shutdown.cancel();
            if first.is_ok() {
                first = Err(failure);
            }
        }
        first
    }
}

async fn keep_running<A, F, E>(
    name: String,
    on_failure: OnFailure,
    mut attempt: A,
    shutdown: CancellationToken,
) -> Result<(), TaskFailure>
where
    A: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let restarts = counter!(TASK_RESTARTS.name, "task" => name.clone());
    let mut delays = RestartDelays::default();
    loop {
        let started = tokio::time::Instant::now();
        #[expect(clippy::disallowed_methods, reason = "this is the place that gives a task its name and policy")]
        let run = AbortOnDropHandle::new(tokio::spawn(attempt()));
        let reason = match run.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure.to_string(),
            Err(join) => join.to_string(),
        };
        if on_failure == OnFailure::StopProcess {
            return Err(TaskFailure { name, reason });
        }
        let delay = delays.after(started.elapsed());
        restarts.increment(1);
        warn!(task = name, reason, delay_ms = delay.as_millis(), "task failed, starting it again");
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(delay) => {}
        }
        info!(task = name, "task starts again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_task_that_ran_well_for_a_while_waits_as_little_as_a_new_one() {
        let mut delays = RestartDelays::default();
        assert_eq!(delays.after(Duration::ZERO), RESTART_DELAY_MIN);
        assert_eq!(delays.after(Duration::ZERO), RESTART_DELAY_MIN * 2);
        for _ in 0..20 {
            delays.after(Duration::ZERO);
        }
        assert_eq!(delays.after(Duration::ZERO), RESTART_DELAY_MAX);
        assert_eq!(delays.after(STEADY_AFTER), RESTART_DELAY_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_or_panics_is_started_again_until_it_ends_well() {
        let runs = Arc::new(AtomicU32::new(0));
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.spawn_with("flaky", OnFailure::Restart, Arc::clone(&runs), |runs| async move {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            assert!(run != 0, "the first run panics");
            if run == 1 { Err("the second fails") } else { Ok(()) }
        });
        supervisor.wait().await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_must_not_fail_stops_the_others() {
        let shutdown = CancellationToken::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        supervisor.spawn_with("waits", OnFailure::Restart, shutdown, |shutdown| async move {
            shutdown.cancelled().await;
            Ok::<(), String>(())
        });
        supervisor.spawn("vital", OnFailure::StopProcess, || async { Err("out of order") });
        let failure = supervisor.wait().await.unwrap_err();
        assert_eq!(failure.to_string(), "task vital failed: out of order");
    }
}
