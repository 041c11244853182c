use std::collections::VecDeque;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_MESSAGE_ID, NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishAckFuture;
use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::super::written::{Deposit, Deposits};
use super::super::{Run, within};

/// How many publishes to a stream wait for their answers.
const WINDOW: usize = 256;

/// How many messages a chain has: as many as the bank publishes for one answer.
const MESSAGES_PER_CHAIN: usize = 500;

/// How many accounts each publisher has: ten thousand together.
const ACCOUNTS_PER_PUBLISHER: usize = 1_250;

/// Publishes messages, each with an answer of its own.
pub(super) fn singles(
    jetstream: Context,
    subject: String,
    run: &Run,
) -> impl Future<Output = anyhow::Result<u64>> + Send + use<> {
    let mut deposits = Deposits::new(ACCOUNTS_PER_PUBLISHER, &run.clock, &run.ids);
    let duration = run.duration;
    async move {
        let mut waiting: VecDeque<PublishAckFuture> = VecDeque::with_capacity(WINDOW);
        let (began, mut published) = (Instant::now(), 0);
        while began.elapsed() < duration {
            if waiting.len() == WINDOW
                && let Some(oldest) = waiting.pop_front()
            {
                within(oldest).await?;
                published += 1;
            }
            let (headers, body) = message(&deposits.next());
            waiting.push_back(within(jetstream.publish_with_headers(subject.clone(), headers, body)).await?);
        }
        for rest in waiting {
            within(rest).await?;
            published += 1;
        }
        Ok(published)
    }
}

/// Publishes chains, one after the other: each message names the end it is to stand behind, and only the last of a
/// chain is answered.
pub(super) fn chains(
    jetstream: Context,
    subject: String,
    run: &Run,
) -> impl Future<Output = anyhow::Result<u64>> + Send + use<> {
    let mut deposits = Deposits::new(ACCOUNTS_PER_PUBLISHER, &run.clock, &run.ids);
    let duration = run.duration;
    async move {
        let (began, mut published, mut last) = (Instant::now(), 0, None);
        while began.elapsed() < duration {
            last = Some(chain(&jetstream, &subject, &mut deposits, last).await?);
            published += MESSAGES_PER_CHAIN as u64;
        }
        Ok(published)
    }
}

/// Publishes a chain behind this sequence, or wherever the stream ends; answers the sequence of its last message.
async fn chain(
    jetstream: &Context,
    subject: &str,
    deposits: &mut Deposits,
    behind: Option<u64>,
) -> anyhow::Result<u64> {
    let mut before = None;
    let messages = (0..MESSAGES_PER_CHAIN as u64).map(|number| {
        let deposit = deposits.next();
        let (mut headers, body) = message(&deposit);
        if let Some(behind) = behind {
            headers.insert(NATS_EXPECTED_LAST_SEQUENCE, (behind + number).to_string().as_str());
        }
        if let Some(before) = before.replace(id(&deposit)) {
            headers.insert(NATS_EXPECTED_LAST_MESSAGE_ID, before.as_str());
        }
        (headers, body)
    });
    let mut messages: Vec<_> = messages.collect();
    let (headers, body) = messages.pop().context("a chain has a message at least")?;
    let client = jetstream.client();
    for (headers, body) in messages {
        within(client.publish_with_headers(subject.to_owned(), headers, body)).await?;
    }
    let answer = within(client.request_with_headers(subject.to_owned(), headers, body)).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    answer["seq"].as_u64().with_context(|| format!("a chain is refused: {}", answer["error"]))
}

fn id(Deposit { account, version, .. }: &Deposit) -> String {
    format!("{account}/{version}")
}

/// A deposit as it lies in the log.
fn message(deposit: &Deposit) -> (HeaderMap, Bytes) {
    let Deposit { account, version, events, .. } = deposit;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id(deposit).as_str());
    let events = String::from_utf8_lossy(&events.json);
    (headers, format!(r#"{{"stream":"{account}","first_version":{version},"events":{events}}}"#).into())
}
