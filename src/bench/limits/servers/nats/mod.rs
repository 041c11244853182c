//! NATS JetStream: publishes of one write and of many, and reads, on as many streams as a bank has partitions.

mod publish;
mod read;

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use shared::config::{BackendSettings, ServerUrl};
use shared::log::{NatsOptions, connect_nats};

use super::super::super::report::Report;
use super::{Run, removed_behind, together, within};

/// The default number of a bank's partitions.
const STREAMS: usize = 8;

/// As in the bank: messages have no ids, so there is nothing to remember.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

pub(super) async fn measure(
    url: &ServerUrl,
    backends: &BackendSettings,
    run: &Run,
    report: &mut Report,
) -> anyhow::Result<()> {
    let options = NatsOptions {
        url: url.as_str(),
        authorities: backends.tls_ca.as_ref(),
        credentials: backends.log_credentials.as_deref(),
        replicas: backends.log_replicas,
    };
    let jetstream = connect_nats(&options).await?;
    let removing = async {
        for name in names(run) {
            within(jetstream.delete_stream(name)).await?;
        }
        Ok(())
    };
    let copies = backends.log_replicas.unwrap_or(1);
    removed_behind(Box::pin(limits(&jetstream, copies, run, report)), removing).await
}

/// The streams; each has one subject, with the same name.
fn names(run: &Run) -> impl Iterator<Item = String> {
    (1..=STREAMS).map(|number| format!("{}-{number}", run.name))
}

async fn limits(jetstream: &Context, copies: u8, run: &Run, report: &mut Report) -> anyhow::Result<()> {
    for name in names(run) {
        within(jetstream.create_stream(config(name, copies))).await?;
    }
    let singles = names(run).map(|name| publish::singles(jetstream.clone(), name, run));
    report.figures.insert("nats_single_publishes_per_second", together(singles).await?);
    // The reads below are of messages like the bank's.
    for name in names(run) {
        let stream = within(jetstream.get_stream(name)).await?;
        within(stream.purge()).await?;
    }
    let packed = names(run).map(|name| publish::packed(jetstream.clone(), name, run));
    report.figures.insert("nats_packed_publishes_per_second", together(packed).await?);
    let reads = names(run).map(|name| read::all(jetstream.clone(), name, run.duration));
    report.figures.insert("nats_reads_per_second", together(reads).await?);
    Ok(())
}

fn config(name: String, copies: u8) -> Config {
    Config {
        subjects: vec![name.clone()],
        name,
        storage: StorageType::File,
        num_replicas: copies.into(),
        discard: DiscardPolicy::New,
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    }
}
