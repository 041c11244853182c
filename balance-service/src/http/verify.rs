//! Comparing the view with the store while both keep changing, and repairing it.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use futures::StreamExt;
use futures::stream::{self, Stream};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use shared::backends::Backends;
use shared::http::{NoBody, Problem, QueryParams, Reason, whole_within};
use shared::id::AccountId;
use shared::partition::Partition;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use utoipa::IntoParams;

use super::BalanceApi;
use super::refusals::VerifyRefusals;
use crate::verify::{
    Accounts, Check, CheckError, PATIENCE_DEFAULT, PATIENCE_MAX, PATIENCE_MIN, PartitionReport, Running, Scope,
};

/// How often the progress of a check is sent.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What to compare, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VerifyParams {
    /// Partitions to compare, comma-separated; default all.
    #[param(value_type = Option<String>, example = "1,3")]
    partitions: Option<Partitions>,
    /// Accounts to compare instead of partitions, comma-separated, at most 100.
    #[param(value_type = Option<String>, example = "0198c1a2-7f00-7000-8000-000000000001")]
    accounts: Option<AccountList>,
    /// How long a difference may be due to events in flight, in milliseconds: 1000 to 3600000; default 30000.
    #[param(value_type = Option<u64>, minimum = 1_000, maximum = 3_600_000)]
    patience_ms: Option<Patience>,
    /// Whether to rewrite wrong documents from the store.
    #[serde(default)]
    repair: bool,
}

#[derive(Debug)]
struct Partitions(Vec<Partition>);

impl<'de> Deserialize<'de> for Partitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let numbers = text.split(',').map(|number| number.parse().map(Partition::new));
        let mut partitions: Vec<Partition> = numbers
            .collect::<Result<_, _>>()
            .map_err(|_| serde::de::Error::custom("must be partition numbers such as 1,3"))?;
        partitions.sort_unstable();
        partitions.dedup();
        Ok(Self(partitions))
    }
}

#[derive(Debug)]
struct AccountList(Accounts);

impl<'de> Deserialize<'de> for AccountList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let accounts = text.split(',').map(str::parse::<AccountId>).collect::<Result<Vec<_>, _>>().map_err(|_| {
            serde::de::Error::custom("must be UUIDs such as 0198c1a2-7f00-7000-8000-000000000001, comma-separated")
        })?;
        Accounts::new(accounts).map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug)]
struct Patience(Duration);

impl<'de> Deserialize<'de> for Patience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let millis = whole_within(deserializer, PATIENCE_MIN.as_millis()..=PATIENCE_MAX.as_millis())?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

/// Compare the projection with the store. The answer is a stream of events: `partition` with the report of each
/// partition, `progress` with the number of accounts every second, and finally `done`, or `failed` with the reason.
/// Disconnecting ends the verification. If `accounts` are given, only these are compared, and the partitions that have
/// none of them are not reported; if one of them does not exist, nothing is compared, and `failed` names it.
#[utoipa::path(post, path = "/balance/verify", tag = "verify", params(VerifyParams), responses(
    (status = 200, description = "The reports as they become available", content((String = "text/event-stream"))),
    VerifyRefusals,
))]
pub(super) async fn verify<B: Backends>(
    State(api): State<BalanceApi<B>>,
    QueryParams(params): QueryParams<VerifyParams>,
    _: NoBody,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let VerifyParams { partitions, accounts, patience_ms, repair } = params;
    let scope = scope(partitions, accounts, api.verifier.partitions().collect())?;
    let patience = patience_ms.map_or(PATIENCE_DEFAULT, |patience| patience.0);
    let check = Check { scope, patience, repair };
    let running = api.verifier.begin(check).ok_or_else(|| {
        let detail = "this service compares once at a time; ask again when the other client is answered or gone";
        Problem::new(Reason::VerificationRunning).detail(detail)
    })?;
    Ok(Sse::new(events(running, api.shutdown)))
}

/// What to compare of a bank that has all these partitions.
fn scope(asked: Option<Partitions>, accounts: Option<AccountList>, all: Vec<Partition>) -> Result<Scope, Problem> {
    let Partitions(partitions) = match (asked, accounts) {
        (None, None) => return Ok(Scope::Partitions(all)),
        (None, Some(AccountList(accounts))) => return Ok(Scope::Accounts(accounts)),
        (Some(_), Some(_)) => return Err(Problem::invalid("accounts", "must not be given beside partitions")),
        (Some(asked), None) => asked,
    };
    if let Some(strange) = partitions.iter().find(|partition| !all.contains(partition)) {
        let detail = format!("there is no partition {}, only 1 to {}", strange.get(), all.len());
        return Err(Problem::invalid("partitions", detail));
    }
    Ok(Scope::Partitions(partitions))
}

/// The events of a check until it is over, or the service stops.
fn events(running: Running, shutdown: CancellationToken) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((Some(running), shutdown), |(running, shutdown)| async move {
        let mut running = running?;
        let (event, goes_on) = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            report = running.reports.next() => told(report),
            () = tokio::time::sleep(PROGRESS_EVERY) => {
                (event("progress", &json!({ "accounts": running.progress.accounts() })), true)
            }
        };
        Some((Ok(event), (goes_on.then_some(running), shutdown)))
    })
}

/// The event for a report, or for the end; and whether more may follow.
fn told(report: Option<Result<PartitionReport, CheckError>>) -> (Event, bool) {
    match report {
        Some(Ok(report)) => (event("partition", &report), true),
        Some(Err(failure)) => {
            warn!(%failure, "verification not finished");
            let detail = match failure {
                CheckError::NoGeneration
                | CheckError::NoAccounts(_)
                | CheckError::Switched(_)
                | CheckError::Apply(_) => failure.to_string(),
                // The driver's message is for the service's log only.
                CheckError::Backend(_) => {
                    "a backend does not answer; the log of the balance service says why".to_owned()
                }
            };
            (event("failed", &json!({ "detail": detail })), false)
        }
        None => (event("done", &json!({})), false),
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}
