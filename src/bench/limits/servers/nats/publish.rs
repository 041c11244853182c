use std::collections::VecDeque;

use anyhow::ensure;
use async_nats::HeaderMap;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE, NATS_MESSAGE_ID,
};
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishAckFuture;
use bytes::Bytes;
use serde_json::Value;
use shared::id::Ids;
use tokio::time::Instant;

use super::super::written::{Deposit, Deposits};
use super::super::{Run, within};

/// How many publishes to a stream wait for their answers.
const WINDOW: usize = 256;

/// How many messages an atomic batch has: as many as the bank publishes for one answer.
const MESSAGES_PER_BATCH: usize = 500;

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

/// Publishes atomic batches, one after the other; only the last message of each is answered.
pub(super) fn batches(
    jetstream: Context,
    subject: String,
    run: &Run,
) -> impl Future<Output = anyhow::Result<u64>> + Send + use<> {
    let mut deposits = Deposits::new(ACCOUNTS_PER_PUBLISHER, &run.clock, &run.ids);
    let (ids, duration) = (run.ids.clone(), run.duration);
    async move {
        let (began, mut published) = (Instant::now(), 0);
        while began.elapsed() < duration {
            batch(&jetstream, &subject, &mut deposits, &ids).await?;
            published += MESSAGES_PER_BATCH as u64;
        }
        Ok(published)
    }
}

async fn batch(jetstream: &Context, subject: &str, deposits: &mut Deposits, ids: &Ids) -> anyhow::Result<()> {
    let (client, batch) = (jetstream.client(), ids.commit().to_string());
    for number in 1..=MESSAGES_PER_BATCH {
        let (mut headers, body) = message(&deposits.next());
        headers.insert(NATS_BATCH_ID, batch.as_str());
        headers.insert(NATS_BATCH_SEQUENCE, number.to_string().as_str());
        if number < MESSAGES_PER_BATCH {
            within(client.publish_with_headers(subject.to_owned(), headers, body)).await?;
            continue;
        }
        headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        let answer = within(client.request_with_headers(subject.to_owned(), headers, body)).await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        ensure!(answer["error"].is_null(), "a batch is refused: {}", answer["error"]);
    }
    Ok(())
}

/// A deposit as it lies in the log.
fn message(deposit: &Deposit) -> (HeaderMap, Bytes) {
    let Deposit { account, version, events, .. } = deposit;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, format!("{account}/{version}").as_str());
    let events = String::from_utf8_lossy(&events.json);
    (headers, format!(r#"{{"stream":"{account}","first_version":{version},"events":{events}}}"#).into())
}
