//! A job as a balance service tells it, and the requests about it.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use balance_service::rebuild::{JobId, JobState};
use balance_service::verify::Verification;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use shared::clock::Timestamp;
use shared::http::PROBLEM_JSON;
use shared::index::Generation;

use crate::exit::{CodedFailure, Exit};
use crate::service::Refusal;

/// How long one answer may take: a service asks its backends for it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Where the job is looked at.
const STATUS_PATH: &str = "/balance/rebuild/status";

/// Where the job is cancelled.
const CANCEL_PATH: &str = "/balance/rebuild";

/// The part of a job that is read.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    #[serde(rename = "job")]
    pub(super) id: JobId,
    pub(super) state: JobState,
    pub(super) generation: Option<Generation>,
    pub(super) previous: Option<Generation>,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) keep_previous_until: Option<Timestamp>,
    pub(super) partitions: Vec<Progress>,
    pub(super) verification: Option<Verification>,
    pub(super) failure: Option<String>,
}

/// How far one partition has come.
#[derive(Debug, Deserialize)]
pub(super) struct Progress {
    pub(super) done: u64,
    pub(super) total: Option<u64>,
}

impl Job {
    /// Its state, for people.
    pub(super) const fn state_in_words(&self) -> &'static str {
        match self.state {
            JobState::Replaying => "replaying",
            JobState::CatchingUp => "catching up",
            JobState::Verifying => "verifying",
            JobState::Switching => "switching",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }
}

/// The jobs of a bank, asked for at one of its balance services.
pub(super) struct Jobs {
    http: reqwest::Client,
    base: String,
}

impl Jobs {
    /// Asks the service at `base`.
    pub(super) fn new(base: String) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIME_MAX).build()?;
        Ok(Self { http, base })
    }

    /// Begins a job, by a request that is sent once.
    pub(super) async fn begin(&self, path: &str) -> anyhow::Result<Job> {
        let base = &self.base;
        let answer = self.http.post(format!("{base}{path}")).send().await.map_err(|failure| {
            let is_sent = !failure.is_connect();
            let told = if is_sent { self.answer_lost() } else { format!("no balance service answers at {base}") };
            anyhow::Error::from(failure).context(told)
        })?;
        let status = answer.status();
        if status == StatusCode::ACCEPTED {
            return answer.json().await.with_context(|| self.answer_lost());
        }
        // A proxy may have lost the answer; what the bank says tells by itself whether the job may have begun.
        let is_of_the_bank = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
        if status.is_server_error() && !is_of_the_bank {
            bail!(self.may_have_begun(format_args!("{base} answers {status}, which is not the bank's answer")));
        }
        let Refusal { detail } = Refusal::of(answer).await;
        if status == StatusCode::CONFLICT {
            return Err(CodedFailure::new(Exit::NotSwitched, format_args!("{base}: {detail}")).into());
        }
        bail!("{base} answers {status}: {detail}")
    }

    /// The running or last job of the bank.
    pub(super) async fn look(&self) -> anyhow::Result<Job> {
        let answer = self.http.get(format!("{}{STATUS_PATH}", self.base)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// How to look at a job, and how to cancel it.
    pub(super) fn hint(&self) -> String {
        let base = &self.base;
        format!("curl {base}{STATUS_PATH} shows it, and curl -X DELETE {base}{CANCEL_PATH} cancels it")
    }

    fn answer_lost(&self) -> String {
        self.may_have_begun(format_args!("the answer of {} is lost", self.base))
    }

    fn may_have_begun(&self, why: fmt::Arguments<'_>) -> String {
        format!("{why}, so the job may have begun; {}", self.hint())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A job in a state, with the time of its end and its verification in JSON.
    pub(in crate::rebuild) fn job_of(state: &str, finished_at: &str, verification: &str) -> Job {
        serde_json::from_str(&text_of(state, finished_at, verification)).unwrap()
    }

    /// The same, as a service tells it.
    pub(in crate::rebuild) fn text_of(state: &str, finished_at: &str, verification: &str) -> String {
        format!(
            r#"{{
                "job": "0198c1a2-7f00-7000-8000-000000000001", "purpose": "rebuild", "state": "{state}",
                "generation": 2, "previous": 1, "started_at": "2026-01-01T00:00:00Z", "finished_at": {finished_at},
                "keep_previous_until": {finished_at},
                "partitions": [{{ "partition": 1, "state": "replaying", "done": 5, "total": 10 }}],
                "events_per_second": null, "eta_seconds": null, "verification": {verification}, "failure": null
            }}"#
        )
    }
}
