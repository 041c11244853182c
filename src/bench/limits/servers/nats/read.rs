use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures::StreamExt;
use tokio::time::Instant;

use super::super::within;
use super::publish::writes_in;

/// How many messages are requested at once, as in the bank: with many more a server would cut the connection.
const MESSAGES_AT_ONCE: i64 = 16;

/// Reads a stream in order from its beginning, to its end or for this long; returns the number of writes.
pub(super) async fn all(jetstream: Context, name: String, duration: Duration) -> anyhow::Result<u64> {
    let stream = within(jetstream.get_stream(name)).await?;
    let stored = stream.cached_info().state.messages;
    ensure!(stored > 0, "the stream is empty after publishing");
    let reader =
        within(stream.create_consumer(OrderedConfig { max_batch: MESSAGES_AT_ONCE, ..OrderedConfig::default() }))
            .await?;
    let mut messages = within(reader.messages()).await?;
    let (began, mut messages_read, mut read) = (Instant::now(), 0, 0);
    while messages_read < stored && began.elapsed() < duration {
        let message = within(async { messages.next().await.transpose() }).await?;
        read += writes_in(message.context("the server ended the delivery")?.headers.as_ref());
        messages_read += 1;
    }
    Ok(read)
}
