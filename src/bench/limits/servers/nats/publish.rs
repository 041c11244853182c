use std::collections::VecDeque;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishAckFuture;
use bytes::Bytes;
use tokio::time::Instant;

use super::super::written::{Deposit, Deposits};
use super::super::{Run, within};

/// How many publishes to a stream are in flight.
const WINDOW: usize = 256;

/// How many writes a message has: as many as a busy forwarder has at once for one of eight partitions.
const WRITES_PER_MESSAGE: u64 = 500;

/// The header in which a message says how many writes it holds.
const RECORDS: &str = "Bank-Records";

/// How many accounts each publisher has: ten thousand together.
const ACCOUNTS_PER_PUBLISHER: usize = 1_250;

/// Publishes messages of one write, many of which are in flight at once.
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
            let (headers, body) = message(&mut deposits, 1);
            waiting.push_back(within(jetstream.publish_with_headers(subject.clone(), headers, body)).await?);
        }
        for rest in waiting {
            within(rest).await?;
            published += 1;
        }
        Ok(published)
    }
}

/// Publishes messages of many writes, one after the other, as the bank does: each states the end that it expects, and
/// is answered. Returns the number of writes.
pub(super) fn packed(
    jetstream: Context,
    subject: String,
    run: &Run,
) -> impl Future<Output = anyhow::Result<u64>> + Send + use<> {
    let mut deposits = Deposits::new(ACCOUNTS_PER_PUBLISHER, &run.clock, &run.ids);
    let duration = run.duration;
    async move {
        let (began, mut published) = (Instant::now(), 0);
        let mut last = within(jetstream.get_stream(&subject)).await?.cached_info().state.last_sequence;
        while began.elapsed() < duration {
            let (mut headers, body) = message(&mut deposits, WRITES_PER_MESSAGE);
            headers.insert(NATS_EXPECTED_LAST_SEQUENCE, last.to_string().as_str());
            let sent = within(jetstream.publish_with_headers(subject.clone(), headers, body)).await?;
            last = within(sent).await?.sequence;
            published += WRITES_PER_MESSAGE;
        }
        Ok(published)
    }
}

/// How many writes a message holds, according to its headers.
pub(super) fn writes_in(headers: Option<&HeaderMap>) -> u64 {
    headers.and_then(|headers| headers.get(RECORDS)?.as_str().parse().ok()).unwrap_or(0)
}

/// Deposits as the log holds them.
fn message(deposits: &mut Deposits, writes: u64) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(RECORDS, writes.to_string().as_str());
    let writes: Vec<String> = (0..writes).map(|_| write(&deposits.next())).collect();
    (headers, format!("[{}]", writes.join(",")).into())
}

fn write(Deposit { account, version, time, events }: &Deposit) -> String {
    let (version, time, json) = (version.get(), time.as_micros(), String::from_utf8_lossy(&events.json));
    format!(
        r#"{{"stream":"{account}","first_version":{version},"time":{time},"count":{},"events":{json}}}"#,
        events.count,
    )
}
