//! The services as stages of a process: started together, stopped one after the other.
//!
//! A stage ends on its own only when it fails. Then, as after a signal, the others are asked to stop in order, each
//! after the one before it has ended, so that what a stage needs from the next one is there until its end.

use std::fmt::Display;
use std::future::Future;

use futures::future::{join, join_all};
use shared::supervise::{OnFailure, Supervisor, TaskFailure};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// One service, running.
pub(crate) struct Stage {
    name: &'static str,
    supervisor: Supervisor,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Stage {
    /// Starts a service. `run` gets the token that asks it to stop. When it fails, `shutdown` is cancelled.
    pub(crate) fn start<F, E>(
        name: &'static str,
        shutdown: &CancellationToken,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let stop = CancellationToken::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        let mut service = Some(run(stop.clone()));
        supervisor.spawn(name, OnFailure::StopProcess, move || {
            service.take().expect("what stops the process when it fails is started once")
        });
        Self { name, supervisor, stop, ended: CancellationToken::new() }
    }

    /// Asks the service to stop and waits until it has. Does nothing if it has stopped before.
    pub(crate) async fn stop(&mut self) -> Result<(), TaskFailure> {
        self.stop.cancel();
        let supervisor = std::mem::replace(&mut self.supervisor, Supervisor::new(self.stop.clone()));
        supervisor.wait().await
    }
}

/// Waits until `shutdown` is cancelled, stops the stages in the order given, and gives the first failure.
pub(crate) async fn run_in_stages(stages: Vec<Stage>, shutdown: CancellationToken) -> Result<(), TaskFailure> {
    let order: Vec<_> = stages.iter().map(|stage| (stage.name, stage.stop.clone(), stage.ended.clone())).collect();
    let running = stages.into_iter().map(async |Stage { supervisor, ended, .. }| {
        let end = supervisor.wait().await;
        // If a service ends on its own, the others have nothing left to work for.
        shutdown.cancel();
        ended.cancel();
        end
    });
    let stopping = async {
        shutdown.cancelled().await;
        for (name, stop, ended) in order {
            info!(service = name, "stopping");
            stop.cancel();
            ended.cancelled().await;
        }
    };
    let (ends, ()) = join(join_all(running), stopping).await;
    ends.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn stage(name: &'static str, shutdown: &CancellationToken, ends: &Arc<Mutex<Vec<&'static str>>>) -> Stage {
        let ends = Arc::clone(ends);
        Stage::start(name, shutdown, move |stop| async move {
            stop.cancelled().await;
            ends.lock().unwrap().push(name);
            if name == "breaks" { Err("out of order") } else { Ok(()) }
        })
    }

    #[tokio::test]
    async fn stages_stop_one_after_the_other_in_their_order() {
        let (shutdown, ends) = (CancellationToken::new(), Arc::default());
        let stages = ["first", "second", "third"].map(|name| stage(name, &shutdown, &ends)).into();
        shutdown.cancel();
        run_in_stages(stages, shutdown).await.unwrap();
        assert_eq!(*ends.lock().unwrap(), ["first", "second", "third"]);
    }

    #[tokio::test]
    async fn a_stage_that_breaks_stops_the_others_and_is_the_reason() {
        let (shutdown, ends) = (CancellationToken::new(), Arc::default());
        let broken = stage("breaks", &shutdown, &ends);
        broken.stop.cancel();
        let stages = vec![stage("first", &shutdown, &ends), broken];
        let failure = run_in_stages(stages, shutdown).await.unwrap_err();
        assert_eq!(failure.to_string(), "task breaks failed: out of order");
        assert_eq!(ends.lock().unwrap().len(), 2);
    }
}
