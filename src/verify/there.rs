//! Lets a running balance service compare, and reads its reports as they arrive.

use std::time::Duration;

use anyhow::{Context, bail};
use balance_service::verify::{Accounts, PartitionReport};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::id::AccountId;

use super::VerifyArgs;
use super::screen::Screen;
use crate::exit::{CodedFailure, Exit};
use crate::service::{Refusal, Service};

/// How long the service may be silent: it reports its progress every second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long it may take to reach the service.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The longest event: a report names twenty findings at most.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Deserialize)]
struct Progress {
    accounts: u64,
}

/// Lets the service compare.
pub(super) async fn compare(
    base: &str,
    args: &VerifyArgs,
    accounts: Option<&Accounts>,
    screen: &mut Screen,
) -> anyhow::Result<Vec<PartitionReport>> {
    Service::Balance.refuse_other(base, "--url").await?;
    let url = url(base, args, accounts);
    let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_MAX).read_timeout(SILENCE_MAX).build()?;
    let answer = http.post(&url).send().await.with_context(|| format!("no balance service answers at {base}"))?;
    let status = answer.status();
    if !status.is_success() {
        let Refusal { detail } = Refusal::of(answer).await;
        if status == reqwest::StatusCode::BAD_REQUEST {
            return Err(CodedFailure::new(Exit::Usage, format_args!("{base}: {detail}")).into());
        }
        bail!("{base} answers {status}: {detail}");
    }
    let mut events = Events { answer, buffer: Vec::new() };
    let mut reports = Vec::new();
    while let Some(event) = events.next().await? {
        match &*event.name {
            "partition" => {
                reports.push(event.read::<PartitionReport>()?);
                screen.partition_done();
            }
            "progress" => screen.show(event.read::<Progress>()?.accounts),
            "done" => return Ok(reports),
            "failed" => bail!("{base} could not finish the verification: {}", event.read::<Refusal>()?.detail),
            // Events that only later releases send.
            _ => {}
        }
    }
    bail!("{base} closed the connection before the verification was done; run it again")
}

fn url(base: &str, args: &VerifyArgs, accounts: Option<&Accounts>) -> String {
    let mut url = format!("{base}/balance/verify?patience_ms={}&repair={}", args.patience().as_millis(), args.repair);
    if let Some(partitions) = args.partitions() {
        let partitions: Vec<String> = partitions.iter().map(u16::to_string).collect();
        url = format!("{url}&partitions={}", partitions.join(","));
    }
    if let Some(accounts) = accounts {
        let accounts: Vec<String> = accounts.as_slice().iter().map(AccountId::to_string).collect();
        url = format!("{url}&accounts={}", accounts.join(","));
    }
    url
}

/// A stream of server-sent events.
struct Events {
    answer: reqwest::Response,
    buffer: Vec<u8>,
}

/// One server-sent event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

impl Events {
    async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(event) = take_event(&mut self.buffer)? {
                return Ok(Some(event));
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                bail!("the answer is not that of a balance service; check --url");
            }
            match self.answer.chunk().await.context("the answer ended early; run it again")? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// Takes the first complete event out of a buffer.
fn take_event(buffer: &mut Vec<u8>) -> anyhow::Result<Option<Event>> {
    let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") else { return Ok(None) };
    let event: Vec<u8> = buffer.drain(..end + 2).collect();
    let text = String::from_utf8(event).context("the answer is not text")?;
    let field = |name: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(str::trim_start).collect::<Vec<_>>().join("\n")
    };
    Ok(Some(Event { name: field("event"), data: field("data") }))
}

impl Event {
    fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.data).with_context(|| format!("cannot read the event {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole_wherever_the_answer_was_cut() {
        let text = "event: progress\ndata: {\"accounts\":3}\n\n: still there\n\nevent: done\ndata: {}\n\n";
        for cut in 0..text.len() {
            let (first, second) = text.split_at(cut);
            let mut buffer = Vec::new();
            let mut names = Vec::new();
            for part in [first, second] {
                buffer.extend_from_slice(part.as_bytes());
                while let Some(event) = take_event(&mut buffer).unwrap() {
                    names.push((event.name, event.data));
                }
            }
            let event = |name: &str, data: &str| (name.to_owned(), data.to_owned());
            assert_eq!(names, [event("progress", "{\"accounts\":3}"), event("", ""), event("done", "{}")]);
        }
    }
}
